package dpserver

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/agent"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/test/ports"
)

// live is a zone with a network: one run of a control plane on a store.
type live struct {
	*zone
	address string
	stop    func()
}

// serve starts a control plane that authenticates by label. An address makes it
// take the place of a former one.
func serve(t *testing.T, st store.Store, instance, address, cert, key string) *live {
	t.Helper()
	defs := all.Policies()
	kinds := kind.All()
	for _, d := range defs {
		kinds = append(kinds, d.Kind())
	}
	log := slog.New(slog.DiscardHandler)
	v := view.New(resource.NewKinds(kinds...), site, log)
	engine := compile.New(compile.Config{View: v, Policies: defs, Log: log})
	srv, err := New(Config{
		CertFile: cert, KeyFile: key, Store: st, View: v, Kinds: v.Kinds(), Site: site, Log: log,
		InstanceID: instance, Version: "3.0.0", Authenticate: byLabelInToken,
		DeregistrationDelay: 100 * time.Millisecond, HealthReport: 200 * time.Millisecond,
		Attach: func(i compile.ProxyInfo) Attachment { return engine.Attach(i) },
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	serving, stopServing := context.WithCancel(ctx)
	served := make(chan struct{})
	wg.Go(func() { view.Follow(ctx, st, v) })
	wg.Go(func() { engine.Run(ctx) })
	wg.Go(func() {
		defer close(served)
		if err := srv.Serve(serving, l); err != nil {
			t.Error(err)
		}
	})
	out := &live{zone: &zone{Server: srv, t: t, st: st}, address: l.Addr().String()}
	out.stop = sync.OnceFunc(func() {
		stopServing()
		<-served
		cancel()
		wg.Wait()
	})
	t.Cleanup(out.stop)
	return out
}

// byLabelInToken takes the token a.<value of the label app>.c.
func byLabelInToken(_ context.Context, token string, dp *resource.Object) error {
	if want := "a." + dp.Labels["app"] + ".c"; token != want {
		return fmt.Errorf("the token must be %s", want)
	}
	return nil
}

// until waits for the view to meet a condition.
func (l *live) until(what string, met func() bool) {
	l.t.Helper()
	sub := l.cfg.View.Subscribe()
	defer sub.Close()
	limit := time.After(20 * time.Second)
	for !met() {
		select {
		case <-sub.C():
		case <-limit:
			l.t.Fatalf("not reached: %s", what)
		}
	}
}

func port32(t *testing.T, address string) uint32 {
	t.Helper()
	list, err := ports.Free(address, 1)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(list[0])
}

// TestEnvoyThroughTheLifeOfItsControlPlane runs an agent with a real Envoy, whose
// outbound leads to its own inbound. The control plane is replaced meanwhile.
func TestEnvoyThroughTheLifeOfItsControlPlane(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer app.Close()
	u, err := url.Parse(app.URL)
	if err != nil {
		t.Fatal(err)
	}
	const address = "127.0.0.5"
	in, out := port32(t, address), port32(t, address)
	text := fmt.Sprintf(`{"type":"Dataplane","mesh":"shop","name":"cart-1","labels":{"app":"cart"},"networking":{"address":%q,"admin":{"port":%d},
		"inbound":[{"port":%d,"servicePort":%s,"protocol":"http","name":"api"}],
		"outbound":[{"address":%q,"port":%d,"backendRef":{"kind":"MeshService","name":"cart","port":80}}]}}`,
		address, port32(t, address), in, u.Port(), address, out)

	st := memory.Open()
	cert, key := newCertificate(t, true, "127.0.0.1")
	first := serve(t, st, "cp-1", "127.0.0.1:0", cert, key)
	first.put(`{"type":"Mesh","name":"shop"}`)
	first.put(`{"type":"MeshService","mesh":"shop","name":"cart","spec":{
		"selector":{"dataplaneLabels":{"matchLabels":{"app":"cart"}}},"ports":[{"port":80,"targetPort":"api","appProtocol":"http"}]}}`)

	c := agent.Defaults()
	c.ControlPlane.Address, c.ControlPlane.CAFile = "https://"+first.address, cert
	c.Dataplane, c.Token = text, "a.cart.c"
	c.WorkDir = filepath.Join(t.TempDir(), "work")
	c.ReadinessPort = port32(t, address)
	c.Envoy.Binary, c.Envoy.Concurrency, c.Envoy.LogLevel = envoyBinary(t), 1, "warning"
	c.Log = slog.New(slog.DiscardHandler)
	signals := make(chan os.Signal, 2)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, err := os.Create(filepath.Join(t.TempDir(), "envoy.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	go func() { ended <- agent.Run(ctx, c, signals, agent.Streams{Out: log, Err: log}) }()
	defer func() {
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s", b)
		}
	}()

	first.until("acknowledged", func() bool {
		for _, s := range first.insight("cart-1").GetSubscriptions() {
			if s.GetStatus().GetLds().GetResponsesAcknowledged() > 0 {
				return true
			}
		}
		return false
	})
	answers := func() error {
		resp, err := http.Get(fmt.Sprintf("http://%s:%d/", address, out))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
			return fmt.Errorf("%s %q %v", resp.Status, b, err)
		}
		return nil
	}
	for begun := time.Now(); ; { // Envoy acknowledges a listener before it listens
		err := answers()
		if err == nil {
			break
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal(err)
		}
	}
	first.until("an endpoint", func() bool { return first.callable() == 1 })
	ready := agent.WaitConfig{
		URL:     fmt.Sprintf("http://%s:%d/ready", address, c.ReadinessPort),
		Timeout: 10 * time.Second, CheckFrequency: 10 * time.Millisecond, RequestTimeout: time.Second,
	}
	if err := agent.Wait(ctx, ready); err != nil {
		t.Error(err)
	}
	admin := ready
	admin.URL = fmt.Sprintf("http://%s:%d/ready", address, kind.NetworkingOf(first.get(kind.Dataplane, "shop", "cart-1")).GetAdmin().GetPort())
	if err := agent.Wait(ctx, admin); err != nil {
		t.Errorf("the proxy does not show the agent's readiness: %v", err)
	}

	first.stop()
	if err := answers(); err != nil {
		t.Errorf("without control plane: %v", err)
	}
	if kind.DataplaneOnline(first.insight("cart-1")) {
		t.Error("a control plane that stopped did not write the ends of its streams")
	}

	second := serve(t, st, "cp-2", first.address, cert, key)
	second.until("the proxy is back", func() bool {
		if n := second.callable(); n == 0 {
			t.Error("no endpoints while the proxy comes back to another control plane")
		}
		return kind.DataplaneOnline(second.insight("cart-1"))
	})
	subs := second.insight("cart-1").Subscriptions
	if len(subs) != 2 || subs[1].ControlPlaneInstanceId != "cp-2" {
		t.Errorf("subscriptions %v", subs)
	}
	if err := answers(); err != nil {
		t.Error(err)
	}

	signals <- syscall.SIGTERM
	signals <- syscall.SIGTERM
	if err := <-ended; err != nil {
		t.Error(err)
	}
	second.until("the Dataplane is gone", func() bool { return second.get(kind.Dataplane, "shop", "cart-1") == nil })
}
