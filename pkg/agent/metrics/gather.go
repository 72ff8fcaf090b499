package metrics

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Gatherer collects the metrics of one proxy and its workload.
type Gatherer struct {
	Envoy *http.Client // reaches Envoy's administration, whatever the host
	// Own are metrics of the agent itself. Nil: none.
	Own prometheus.Gatherer
	// Address is where applications are that say no address.
	Address string
	// Redirected: connections are redirected to the proxy, except those from the
	// addresses below.
	Redirected bool
	Log        *slog.Logger

	mu     sync.Mutex
	told   *Told
	failed map[string]string // sources that could not be read, and why
}

// Addresses whose connections are not redirected.
const (
	source4 = "127.0.0.6"
	source6 = "::6"
)

// limit bounds what one source may answer.
const limit = 256 << 20

// DefaultTimeout bounds one collection.
const DefaultTimeout = 10 * time.Second

// Tell has the next collection do as it is told.
func (g *Gatherer) Tell(t *Told) {
	g.mu.Lock()
	g.told = t
	g.mu.Unlock()
}

func (g *Gatherer) current() *Told {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told
}

// Group is families of one source. Name is that of an application, empty for the
// proxy itself.
type Group struct {
	Name     string
	Families []*dto.MetricFamily
}

// Gather returns what is wanted of every source: of the proxy first, then of the
// applications in order. A source that does not answer is left out and reported
// in the log. Nothing is gathered before the control plane said something.
func (g *Gatherer) Gather(ctx context.Context) []Group {
	t := g.current()
	if t == nil {
		return nil
	}
	out := make([]Group, 1+len(t.Applications))
	var wg sync.WaitGroup
	wg.Go(func() { out[0].Families = g.proxy(ctx, t) })
	for i, a := range t.Applications {
		wg.Go(func() { out[i+1] = Group{Name: a.Name, Families: g.application(ctx, a)} })
	}
	wg.Wait()
	return out
}

func (g *Gatherer) proxy(ctx context.Context, t *Told) []*dto.MetricFamily {
	where := "http://envoy/stats?format=prometheus&text_readouts"
	if !t.Unused {
		where += "&usedonly"
	}
	families, err := fetch(ctx, g.Envoy, where)
	g.report("Envoy", err)
	if g.Own != nil {
		own, err := g.Own.Gather()
		g.report("the agent", err)
		families = append(families, own...)
	}
	var out []*dto.MetricFamily
	for _, m := range families {
		if m = t.Filter.Apply(m); m != nil {
			out = append(out, m)
		}
	}
	return out
}

func (g *Gatherer) application(ctx context.Context, a Application) []*dto.MetricFamily {
	host := cmp.Or(a.Address, g.Address)
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(host, strconv.FormatUint(uint64(a.Port), 10)), Path: "/metrics"}
	if a.Path != "" {
		if p, err := url.Parse(a.Path); err == nil {
			u.Path, u.RawQuery = p.Path, p.RawQuery
		}
	}
	families, err := fetch(ctx, g.client(host), u.String())
	g.report(u.String(), err)
	return families
}

// client reaches applications past the proxy.
func (g *Gatherer) client(host string) *http.Client {
	d := &net.Dialer{}
	if g.Redirected {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source4)}
		if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source6)}
		}
	}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
}

// report logs when a source fails in a new way, and when it is back.
func (g *Gatherer) report(source string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, was := g.failed[source]
	switch {
	case err == nil && was:
		delete(g.failed, source)
		g.Log.Info("metrics can be read again", "source", source)
	case err != nil && before != err.Error() && !errors.Is(err, context.Canceled):
		if g.failed == nil {
			g.failed = map[string]string{}
		}
		g.failed[source] = err.Error()
		g.Log.Warn("metrics could not be read", "source", source, "error", err)
	}
}

// accept asks for the format that can be merged.
const accept = "text/plain;version=0.0.4;q=1,*/*;q=0.1"

const openMetrics = "application/openmetrics-text"

func fetch(ctx context.Context, client *http.Client, where string) ([]*dto.MetricFamily, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	body := io.LimitReader(resp.Body, limit)
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	switch mediaType {
	case openMetrics:
		body = plain(body)
	case expfmt.ProtoType:
		format = expfmt.NewFormat(expfmt.TypeProtoDelim)
	}
	if format.FormatType() == expfmt.TypeTextPlain {
		p := expfmt.NewTextParser(model.UTF8Validation)
		byName, err := p.TextToMetricFamilies(body)
		if err != nil {
			return nil, err
		}
		return slices.SortedFunc(maps.Values(byName), func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) }), nil
	}
	var out []*dto.MetricFamily
	for dec := expfmt.NewDecoder(body, format); ; {
		m := &dto.MetricFamily{}
		if err := dec.Decode(m); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
}

// plain makes the older text format of OpenMetrics: without exemplars, units and
// times, and with the names that counters have in their samples.
func plain(r io.Reader) io.Reader {
	var out bytes.Buffer
	counters := map[string]bool{}
	for s := bufio.NewScanner(r); s.Scan(); {
		line := s.Text()
		if f := strings.Fields(line); len(f) > 3 && f[0] == "#" && f[1] == "TYPE" {
			switch f[3] {
			case "counter":
				counters[f[2]] = true
				line = "# TYPE " + f[2] + "_total counter"
			case "unknown", "info", "stateset", "gaugehistogram":
				line = "# TYPE " + f[2] + " untyped"
			}
		} else if strings.HasPrefix(line, "#") {
			continue
		} else if line = sample(line); line == "" {
			continue
		}
		out.WriteString(line + "\n")
	}
	return &out
}

// sample is a line without exemplar and time; empty for times of creation.
func sample(line string) string {
	if i := strings.Index(line, " # "); i >= 0 {
		line = line[:i]
	}
	end := strings.LastIndexByte(line, '}') + 1 // labels may hold blanks
	name, rest := line[:end], line[end:]
	f := strings.Fields(rest)
	if end == 0 && len(f) > 0 {
		name, f = f[0], f[1:]
	}
	if len(f) == 0 || strings.HasSuffix(strings.SplitN(name, "{", 2)[0], "_created") {
		return ""
	}
	return name + " " + f[0]
}
