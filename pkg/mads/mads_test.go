package mads

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/yaml"

	madsproto "github.com/atoll-mesh/atoll/api/kuma/observability/v1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/meshmetric"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// world is a view that the test writes to, and a server over it.
type world struct {
	t     *testing.T
	kinds *resource.Kinds
	view  *view.View
	rev   store.Revision
	*Server
}

func newWorld(t *testing.T, allow func(*http.Request) (func(string) bool, int, error)) *world {
	w := &world{t: t, kinds: resource.NewKinds(append(kind.All(), meshmetric.Def.Kind())...)}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	w.view = view.New(w.kinds, resource.Site{Zone: "east", Env: resource.EnvUniversal}, log)
	var err error
	w.Server, err = New(Config{Address: "127.0.0.1:0", View: w.view, Allow: allow, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) decode(doc string) *resource.Object {
	js, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		w.t.Fatal(err)
	}
	var head struct{ Type resource.Type }
	if err := json.Unmarshal(js, &head); err != nil {
		w.t.Fatal(err)
	}
	o, err := w.kinds.ByType(head.Type).DecodeJSON(js)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) apply(docs string) {
	w.t.Helper()
	var changes []store.Change
	for doc := range strings.SplitSeq(docs, "\n---\n") {
		o := w.decode(doc)
		r := store.Put(o, store.Any, "test").Record
		r.Version = w.rev + 1
		changes = append(changes, store.Change{ID: o.ID, Record: &r})
	}
	w.commit(changes)
}

func (w *world) remove(id resource.ID) { w.commit([]store.Change{{ID: id}}) }

func (w *world) commit(changes []store.Change) {
	w.rev++
	w.view.Commit([]store.Commit{{Revision: w.rev, Time: time.Now(), Changes: changes}})
}

// fetch asks as Prometheus does and returns the version and one line per target.
func (w *world) fetch(client, version, timeout string) (status int, newVersion string, targets []string) {
	w.t.Helper()
	body := fmt.Sprintf(`{"version_info": %q, "node": {"id": %q}, "type_url": "x", "resource_names": [], "response_nonce": %[1]q, "unknown": 1}`, version, client)
	resp, err := http.Post(fmt.Sprintf("http://%s%s?fetch-timeout=%s", w.Addr(), Path, timeout), "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, "", []string{strings.TrimSpace(string(b))}
	}
	var got struct {
		Version   string `json:"version_info"`
		TypeURL   string `json:"type_url"`
		Resources []struct {
			Type    string `json:"@type"`
			Mesh    string
			Service string
			Targets []struct {
				Name, Scheme, Address string
				Path                  string `json:"metrics_path"`
			}
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		w.t.Fatal(err)
	}
	if got.TypeURL != TypeURL {
		w.t.Errorf("type %q", got.TypeURL)
	}
	for _, r := range got.Resources {
		if r.Type != TypeURL {
			w.t.Errorf("type of a resource: %q", r.Type)
		}
		for _, x := range r.Targets {
			targets = append(targets, fmt.Sprintf("%s %s %s %s://%s%s", r.Mesh, r.Service, x.Name, x.Scheme, x.Address, x.Path))
		}
	}
	return resp.StatusCode, got.Version, targets
}

func (w *world) want(client string, want ...string) string {
	w.t.Helper()
	status, version, got := w.fetch(client, "", "0s")
	if status != http.StatusOK || strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.t.Errorf("%s is told %d:\n%s\nwant:\n%s", client, status, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return version
}

const proxies = `
type: Mesh
name: default
---
type: Mesh
name: other
---
type: Dataplane
mesh: default
name: web-1
labels: {app: web, kuma.io/workload: web}
networking: {address: 192.0.2.1, inbound: [{port: 80}]}
---
type: Dataplane
mesh: default
name: db-1
labels: {app: db}
networking: {address: "2001:db8::1", inbound: [{port: 80}]}
---
type: Dataplane
mesh: other
name: web-1
networking: {address: 192.0.2.9, inbound: [{port: 80}]}`

const metrics = `
type: MeshMetric
mesh: default
name: all
spec: {default: {backends: [{type: Prometheus, prometheus: {port: 5670, path: /metrics}}]}}
---
type: MeshMetric
mesh: default
name: web
spec:
  targetRef: {kind: Dataplane, labels: {app: web}}
  default:
    backends:
    - {type: Prometheus, prometheus: {clientId: main, port: 1000, path: /m, tls: {mode: ProvidedTLS}}}
    - {type: Prometheus, prometheus: {clientId: second, port: 1001, path: /m}}
    - {type: Prometheus, prometheus: {clientId: taken, port: 1001, path: /m}}
    - {type: OpenTelemetry, openTelemetry: {backendRef: {kind: MeshOpenTelemetryBackend, labels: {a: b}}}}`

// TestAssignments follows policies, proxies and meshes as they change.
func TestAssignments(t *testing.T) {
	w := newWorld(t, nil)
	w.want("prometheus")
	w.apply(proxies)
	w.want("prometheus")
	w.apply(metrics)
	w.want("prometheus", "default unknown db-1 http://[2001:db8::1]:5670/metrics")
	w.want("main", "default web web-1 https://192.0.2.1:1000/m")
	w.want("second", "default web web-1 http://192.0.2.1:1001/m")

	w.apply(`
type: DataplaneInsight
mesh: default
name: web-1
metadata: {metricsCertPath: "", metricsKeyPath: ""}`)
	w.want("main", "default web web-1 http://192.0.2.1:1000/m") // it serves in the clear without files
	w.apply(`
type: DataplaneInsight
mesh: default
name: web-1
metadata: {metricsCertPath: /a, metricsKeyPath: /b}`)
	w.want("main", "default web web-1 https://192.0.2.1:1000/m")

	w.apply("type: MeshMetric\nmesh: other\nname: all\nspec: {default: {backends: [{type: Prometheus, prometheus: {clientId: main, port: 2000, path: /metrics}}]}}")
	w.want("main", "default web web-1 https://192.0.2.1:1000/m", "other unknown web-1 http://192.0.2.9:2000/metrics")
	w.apply("type: Dataplane\nmesh: default\nname: web-1\nlabels: {app: web}\nnetworking: {address: 192.0.2.2, inbound: [{port: 80}]}")
	w.want("main", "default unknown web-1 https://192.0.2.2:1000/m", "other unknown web-1 http://192.0.2.9:2000/metrics")
	w.remove(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "web-1"})
	w.want("main", "other unknown web-1 http://192.0.2.9:2000/metrics")
	w.remove(resource.ID{Type: kind.Mesh, Name: "other"})
	w.want("main", "default unknown db-1 http://[2001:db8::1]:5670/metrics") // unknown now, so as anybody
	w.remove(resource.ID{Type: meshmetric.Type, Mesh: "default", Name: "all"})
	w.want("main")
}

// TestLongPoll shows that a request waits for what changes for its client, and
// for nothing else.
func TestLongPoll(t *testing.T) {
	w := newWorld(t, nil)
	w.apply(proxies + "\n---" + metrics)
	version := w.want("main", "default web web-1 https://192.0.2.1:1000/m")
	if status, _, _ := w.fetch("main", version, "0s"); status != http.StatusNotModified {
		t.Errorf("without waiting: %d", status)
	}
	if status, _, _ := w.fetch("main", version, "20ms"); status != http.StatusNotModified {
		t.Errorf("after waiting: %d", status)
	}
	for _, bad := range []string{"x", "10"} {
		if status, _, _ := w.fetch("main", version, bad); status != http.StatusBadRequest {
			t.Errorf("fetch-timeout=%s: %d", bad, status)
		}
	}
	type answer struct {
		status  int
		targets []string
	}
	waiting := make(chan answer, 1)
	go func() {
		status, _, targets := w.fetch("main", version, "1m")
		waiting <- answer{status, targets}
	}()
	w.apply("type: Dataplane\nmesh: default\nname: db-1\nlabels: {app: db}\nnetworking: {address: 192.0.2.77, inbound: [{port: 80}]}")
	select {
	case got := <-waiting:
		t.Errorf("answered %v when something for another client changed", got)
	case <-time.After(50 * time.Millisecond):
	}
	begun := time.Now()
	w.apply("type: Dataplane\nmesh: default\nname: web-1\nlabels: {app: web}\nnetworking: {address: 192.0.2.78, inbound: [{port: 80}]}")
	got := <-waiting
	if got.status != http.StatusOK || len(got.targets) != 1 || !strings.Contains(got.targets[0], "192.0.2.78") {
		t.Errorf("answered %v", got)
	}
	t.Logf("answered %s after the change", time.Since(begun))
}

// TestGRPC fetches by gRPC on the same port.
func TestGRPC(t *testing.T) {
	w := newWorld(t, nil)
	w.apply(proxies + "\n---" + metrics)
	conn, err := grpc.NewClient(w.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := madsproto.NewMonitoringAssignmentDiscoveryServiceClient(conn)
	got, err := client.FetchMonitoringAssignments(t.Context(), &discovery.DiscoveryRequest{Node: &core.Node{Id: "second"}})
	if err != nil {
		t.Fatal(err)
	}
	a := &madsproto.MonitoringAssignment{}
	if len(got.Resources) != 1 || got.Resources[0].UnmarshalTo(a) != nil || a.Targets[0].Address != "192.0.2.1:1001" {
		t.Errorf("answered %v", got)
	}
}

// TestCallers shows that callers see the meshes that they may, or are refused.
func TestCallers(t *testing.T) {
	w := newWorld(t, func(r *http.Request) (func(string) bool, int, error) {
		if r.URL.Query().Get("fetch-timeout") == "0s" {
			return func(mesh string) bool { return mesh == "other" }, 0, nil
		}
		return nil, http.StatusUnauthorized, fmt.Errorf("who is it")
	})
	w.apply(proxies + "\n---" + metrics + "\n---\ntype: MeshMetric\nmesh: other\nname: all\nspec: {default: {backends: [{type: Prometheus, prometheus: {port: 5670, path: /metrics}}]}}")
	w.want("prometheus", "other unknown web-1 http://192.0.2.9:5670/metrics")
	if status, _, text := w.fetch("prometheus", "", "1s"); status != http.StatusUnauthorized || text[0] != "who is it" {
		t.Errorf("answered %d %s", status, text)
	}
}

// deadlines is an answer that notes until when its request may be read.
type deadlines struct {
	httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// Who sends a request slowly is not waited for, but who waits for news is.
func TestSlowRequests(t *testing.T) {
	w := newWorld(t, nil)
	d := &deadlines{}
	w.serve(d, httptest.NewRequest("POST", Path+"?fetch-timeout=0s", strings.NewReader("{}")))
	if len(d.set) != 2 || d.set[0].IsZero() || time.Until(d.set[0]) > bodyTime || !d.set[1].IsZero() {
		t.Errorf("deadlines %v", d.set)
	}
}
