package agent

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-mesh/atoll/pkg/agent/accesslog"
	"github.com/atoll-mesh/atoll/pkg/agent/dynamic"
	"github.com/atoll-mesh/atoll/pkg/agent/metrics"
	"github.com/atoll-mesh/atoll/pkg/agent/otlp"
)

// socketPath is a unix socket in the work folder. The path is cut where control
// planes cut it: unix limits the whole to 107 bytes.
func socketPath(workdir, name string) string {
	p := filepath.Join(workdir, name)
	if len(p) > 98 {
		p = p[:98]
	}
	return p + ".sock"
}

// telemetry is what an agent does for those who watch: it answers with metrics,
// and sends metrics, traces and access logs on.
type telemetry struct {
	told     *dynamic.Source
	gatherer *metrics.Gatherer
	exports  *otlp.Exports
	logs     *accesslog.Streamer // nil: there is no pipe
	server   *http.Server
	listener net.Listener // nil: metrics are not served
	begun    time.Time

	work sync.WaitGroup
	mu   sync.Mutex
	stop context.CancelFunc // of the collectors that metrics are sent to
	// passed are collectors behind Envoy, direct are those that the agent calls.
	passed, direct []otlp.Push
}

// openTelemetry makes what Envoy expects to be there. What cannot be made is
// reported and left out: traffic is worth more than what is seen of it. own are
// the agent's own metrics, told is where it hears what to do.
func (c *Config) openTelemetry(r *bootstrapRequest, a *admin, address string, own prometheus.Gatherer, told *dynamic.Source) *telemetry {
	t := &telemetry{told: told, begun: time.Now()}
	t.gatherer = &metrics.Gatherer{
		Envoy: &http.Client{Transport: a.client.Transport}, Own: own, Address: address,
		Redirected: c.TransparentProxy != nil, Log: c.Log,
	}
	t.exports = &otlp.Exports{Env: c.otlpEnv(), Log: c.Log}
	name := r.Name + "-" + r.Mesh
	var err error
	if t.logs, err = accesslog.Open(socketPath(r.Workdir, "kuma-al-"+name), c.Log); err != nil {
		c.Log.Error("access logs cannot be sent by TCP", "error", err)
	}
	path := socketPath(r.Workdir, "kuma-mh-"+name)
	_ = os.Remove(path) // left by an agent that was killed
	if t.listener, err = net.Listen("unix", path); err != nil {
		c.Log.Error("metrics cannot be served", "error", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+metrics.Path, func(w http.ResponseWriter, r *http.Request) {
		t.told.Refresh(r.Context()) // so that the answer is as the control plane says now
		t.gatherer.ServeHTTP(w, r)
	})
	t.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return t
}

// run does the work until ctx ends.
func (t *telemetry) run(ctx context.Context) {
	defer t.work.Wait()
	if t.listener != nil {
		t.work.Go(func() { _ = t.server.Serve(t.listener) })
		defer func() { _ = t.server.Close() }()
	}
	if t.logs != nil {
		t.work.Go(func() { t.logs.Run(ctx) })
	}
	defer t.exports.Close()
	t.exports.Push = func(list []otlp.Push) { t.push(ctx, func() { t.direct = list }) }
	t.told.Watch("meshmetric", func(b []byte) error {
		m, err := metrics.Parse(b)
		if err != nil {
			return err
		}
		t.gatherer.Tell(m)
		var list []otlp.Push
		for _, x := range m.Collectors {
			s, err := otlp.Through(x.Socket, x.HTTP, x.Path)
			if err != nil {
				return err
			}
			list = append(list, otlp.Push{Name: x.Name, Sender: s, Interval: x.Interval})
		}
		before := t.passed
		t.push(ctx, func() { t.passed = list })
		for _, x := range before {
			x.Sender.Close()
		}
		return nil
	})
	t.told.Watch("otel", t.exports.Told)
	t.told.Run(ctx)
}

// push sends metrics to the collectors that change sets, instead of those before.
func (t *telemetry) push(ctx context.Context, change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	if t.stop != nil {
		t.stop()
	}
	ctx, t.stop = context.WithCancel(ctx)
	for _, list := range [][]otlp.Push{t.passed, t.direct} {
		for _, p := range list {
			t.work.Go(func() { t.pushTo(ctx, p) })
		}
	}
}

// settle is how long the first push waits for what else belongs to the change that
// asks for it: what to send and whom to send it are told one after the other.
const settle = 50 * time.Millisecond

// pushTo sends metrics now and then after each interval, so that nobody waits for
// an interval to see what a change of the policy does.
func (t *telemetry) pushTo(ctx context.Context, p otlp.Push) {
	next := time.NewTimer(settle)
	defer next.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		next.Reset(p.Interval) // what the user asks for
		err := t.pushOnce(ctx, p)
		switch {
		case err == nil:
			failed = ""
		case ctx.Err() == nil && err.Error() != failed:
			failed = err.Error()
			t.gatherer.Log.Warn("metrics could not be sent", "collector", p.Name, "error", err)
		}
	}
}

func (t *telemetry) pushOnce(ctx context.Context, p otlp.Push) error {
	ctx, cancel := context.WithTimeout(ctx, max(p.Interval, metrics.DefaultTimeout))
	defer cancel()
	data := t.gatherer.OTLP(ctx, t.begun)
	if data == nil {
		return nil
	}
	b, err := proto.Marshal(data)
	if err != nil {
		return err
	}
	_, err = p.Sender.Send(ctx, b)
	return err
}

// inherited is what Envoy gets as descriptor 3: the pipe for access logs.
func (t *telemetry) inherited() []*os.File {
	if t.logs == nil {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil
		}
		return []*os.File{null}
	}
	return []*os.File{t.logs.File()}
}

// told is where the agent hears from the control plane.
func (c *Config) told(r *bootstrapRequest, a *admin) *dynamic.Source {
	s := dynamic.New(socketPath(r.Workdir, "kuma-mesh-metric-config"), c.ConfigInterval, c.Log)
	s.Alive = func(ctx context.Context) bool {
		status, _, err := a.call(ctx, http.MethodGet, "/ready")
		return err == nil && status == http.StatusOK
	}
	return s
}

// otlpEnv is the OTEL_* variables that the agent was started with.
func (c *Config) otlpEnv() *otlp.Env {
	getenv := c.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	return otlp.ReadEnv(getenv)
}
