package telemetry

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// posts collects the bodies that are posted to it, with path and content type
// before each.
type posts struct {
	port int
	mu   sync.Mutex
	all  []post
}

type post struct{ path, kind, body string }

func takePosts(t *testing.T) *posts {
	p := &posts{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.all = append(p.all, post{r.URL.Path, r.Header.Get("Content-Type"), string(b)})
		p.mu.Unlock()
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(s.Close)
	p.port = s.Listener.Addr().(*net.TCPAddr).Port
	return p
}

func (p *posts) forget() { p.mu.Lock(); p.all = nil; p.mu.Unlock() }

// find returns the first that a check accepts.
func (p *posts) find(check func(post) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.all {
		if check(x) {
			return true
		}
	}
	return false
}

// span is one of Zipkin's, as far as it is looked at.
type span struct {
	ID, TraceID, Kind string
	LocalEndpoint     struct{ ServiceName string }
	Tags              map[string]string
}

// spans returns all that arrived, by kind and trace.
func (p *posts) spans() map[string]map[string]span {
	out := map[string]map[string]span{"CLIENT": {}, "SERVER": {}}
	p.find(func(x post) bool {
		var list []span
		if json.Unmarshal([]byte(x.body), &list) == nil {
			for _, s := range list {
				if out[s.Kind] != nil {
					out[s.Kind][s.TraceID] = s
				}
			}
		}
		return false
	})
	return out
}

// tracesToZipkin shows what each setting of Zipkin and of sampling changes.
func tracesToZipkin(t *testing.T, w *world) {
	to := takePosts(t)
	policy := func(zipkin, more string) {
		t.Helper()
		w.apply(t, fmt.Sprintf(`type: MeshTrace
mesh: shop
name: all
spec:
  default:
    backends: [{type: Zipkin, zipkin: {url: "http://127.0.0.1:%d/api/v2/spans"%s}}]%s`, to.port, zipkin, more))
	}
	// pair waits for spans of both sides of one request that satisfy a check.
	pair := func(what string, check func(client, server span) bool) {
		t.Helper()
		until(t, what, func() bool {
			w.call(t)
			got := to.spans()
			for id, c := range got["CLIENT"] {
				if s, ok := got["SERVER"][id]; ok && check(c, s) {
					return true
				}
			}
			return false
		})
	}
	policy("", "")
	pair("spans of both sides, which are the same, with services", func(c, s span) bool {
		return len(c.TraceID) == 16 && c.ID == s.ID && c.LocalEndpoint.ServiceName == "client" && s.LocalEndpoint.ServiceName == workload &&
			c.Tags["kuma.workload"] == "kri_wl_shop_east__client_" && s.Tags["kuma.workload"] == "kri_wl_shop_east__web_"
	})
	policy(", traceId128bit: true, sharedSpanContext: false, apiVersion: httpJson", "\n    tags: [{name: kuma.mesh, literal: mine}]")
	pair("long ids, spans that differ, and a tag of the user", func(c, s span) bool {
		return len(c.TraceID) == 32 && c.ID != s.ID && c.Tags["kuma.mesh"] == "mine"
	})
	policy(", apiVersion: httpProto", "")
	until(t, "no spans in protobuf", func() bool {
		w.call(t)
		return to.find(func(p post) bool { return p.path == "/api/v2/spans" && p.kind == "application/x-protobuf" })
	})
	for _, none := range []string{"{overall: 0}", "{random: \"0\", client: 0}"} {
		policy("", "\n    sampling: "+none)
		until(t, "spans arrive with "+none, func() bool {
			to.forget()
			return !waitFor(t, func() bool {
				w.call(t)
				return to.find(func(post) bool { return true })
			})
		})
	}
	// client: requests that ask to be traced are, though no others.
	policy("", "\n    sampling: {random: 0, client: 100, overall: 100}")
	until(t, "a request that asks for a trace gets none", func() bool {
		w.call(t, "x-client-trace-id", "asked-for")
		return to.find(func(p post) bool { return strings.Contains(p.body, "asked-for") })
	})
	w.apply(t, fmt.Sprintf("type: MeshTrace\nmesh: shop\nname: all\nspec: {targetRef: {kind: Dataplane, labels: {app: web-1}}, default: {backends: [{type: Zipkin, zipkin: {url: \"http://127.0.0.1:%d/api/v2/spans\"}}]}}", to.port))
	until(t, "others than the proxy that is selected make spans", func() bool {
		to.forget()
		waitFor(t, func() bool { w.call(t); return false })
		got := to.spans()
		return len(got["SERVER"]) > 0 && len(got["CLIENT"]) == 0
	})
	w.apply(t, "type: MeshTrace\nmesh: shop\nname: all\nspec: {default: {backends: []}}")
	w.remove(t, "meshtraces", "all")
}

// tracesToDatadog shows the names of services that an agent of Datadog is told.
func tracesToDatadog(t *testing.T, w *world) {
	to := takePosts(t)
	policy := func(split string) {
		w.apply(t, fmt.Sprintf(`type: MeshTrace
mesh: shop
name: all
spec: {targetRef: {kind: Mesh}, default: {backends: [{type: Datadog, datadog: {url: "http://127.0.0.1:%d"%s}}]}}`, to.port, split))
	}
	sees := func(parts ...string) {
		t.Helper()
		for _, part := range parts {
			until(t, "Datadog has no "+part, func() bool {
				w.call(t)
				return to.find(func(p post) bool { return strings.HasSuffix(p.path, "/traces") && strings.Contains(p.body, part) })
			})
		}
	}
	policy("")
	sees("client", "kri_wl_shop_east__client_", "kri_wl_shop_east__web_")
	if to.find(func(p post) bool { return strings.Contains(p.body, "_INBOUND") }) {
		t.Error("services are split without being asked")
	}
	policy(", splitService: true")
	sees("client_OUTBOUND_web", "web_INBOUND")
	w.remove(t, "meshtraces", "all")
}
