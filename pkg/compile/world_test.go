package compile

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

var (
	east  = resource.Site{Zone: "east", Env: resource.EnvUniversal}
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// world is a view that the test commits to, and an engine that the test steps.
type world struct {
	t     testing.TB
	kinds *resource.Kinds
	view  *view.View
	e     *Engine
	rev   store.Revision
}

func newWorld(t testing.TB) *world {
	var kinds []*resource.Kind
	kinds = append(kinds, kind.All()...)
	for _, d := range all.Policies() {
		kinds = append(kinds, d.Kind())
	}
	w := &world{t: t, kinds: resource.NewKinds(kinds...)}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	w.view = view.New(w.kinds, east, log)
	w.e = New(Config{View: w.view, Policies: all.Policies(), Log: log})
	return w
}

// decode reads a resource as users write it; a status is taken too. Labels are
// those that the API computes.
func (w *world) decode(doc string) *resource.Object {
	w.t.Helper()
	js, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		w.t.Fatalf("%v in:\n%s", err, doc)
	}
	var head struct {
		Type   resource.Type
		Status json.RawMessage
	}
	if err := json.Unmarshal(js, &head); err != nil {
		w.t.Fatal(err)
	}
	k := w.kinds.ByType(head.Type)
	if k == nil {
		w.t.Fatalf("kind %q is not known, in:\n%s", head.Type, doc)
	}
	o, err := k.DecodeJSON(js)
	if err != nil {
		w.t.Fatalf("%v in:\n%s", err, doc)
	}
	var status any
	if head.Status != nil {
		status = k.NewStatus()
		if err := json.Unmarshal(head.Status, status); err != nil {
			w.t.Fatal(err)
		}
	}
	m := o.Meta
	if m.Labels[resource.LabelOrigin] != resource.OriginGlobal { // else it came by sync
		m.Labels = east.ComputeLabels(k, m.Name, m.Mesh, m.Labels)
	}
	m.Created = epoch
	o, err = k.New(m, o.Spec, status)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// apply stores resources, separated by ---, in one commit.
func (w *world) apply(docs string) {
	w.t.Helper()
	var objects []*resource.Object
	for doc := range strings.SplitSeq(docs, "\n---\n") {
		objects = append(objects, w.decode(doc))
	}
	w.put(objects...)
}

func (w *world) put(objects ...*resource.Object) {
	var changes []store.Change
	for _, o := range objects {
		changes = append(changes, store.Change{ID: o.ID, Record: w.record(o)})
	}
	w.commit(changes)
}

func (w *world) record(o *resource.Object) *store.Record {
	r := store.Put(o, store.Any, "test").Record
	r.Version, r.Created, r.Modified = w.rev+1, o.Created, epoch
	return &r
}

func (w *world) remove(ids ...resource.ID) {
	var changes []store.Change
	for _, id := range ids {
		changes = append(changes, store.Change{ID: id})
	}
	w.commit(changes)
}

func (w *world) commit(changes []store.Change) {
	w.rev++
	w.view.Commit([]store.Commit{{Revision: w.rev, Time: epoch, Changes: changes}})
}

// attach attaches a proxy and compiles it.
func (w *world) attach(info ProxyInfo) *Proxy {
	p := w.e.Attach(info)
	w.e.step()
	return p
}

func dataplane(name string) ProxyInfo {
	return ProxyInfo{ID: resource.ID{Type: kind.Dataplane, Mesh: "default", Name: name}}
}

// served returns what a proxy is served under a name.
func served(t testing.TB, p *Proxy, typ xds.Type, name string) (version string, value []byte) {
	t.Helper()
	r := p.Set().Source(typ).Get(name)
	if r == nil {
		t.Fatalf("%s %s is not served", typ, name)
	}
	return r.Version, r.Body.Value
}

// check compares what every proxy is served with what Build gives, once nothing
// waits for proxies that come.
func (w *world) check() {
	w.t.Helper()
	if w.e.waits() {
		w.e.crowd.last = time.Time{}
		w.e.step()
	}
	for p := range w.e.proxies {
		set := p.Set()
		want, err := Build(w.e.in, w.e.snap, p.info)
		if err != nil {
			continue // its Dataplane is gone; it keeps what it had
		}
		if set == nil {
			w.t.Fatalf("%s is served nothing at revision %d", p.info.ID, w.rev)
		}
		if d := differences(set, want.Resources); len(d) > 0 {
			w.t.Fatalf("%s at revision %d:\n%s", p.info.ID, w.rev, strings.Join(d, "\n"))
		}
		if got := p.Warnings(); !sameWarnings(got, want.Warnings) {
			w.t.Fatalf("%s at revision %d: warnings\n%v\nwant\n%v", p.info.ID, w.rev, got, want.Warnings)
		}
	}
	if s := w.e.Stats(); s.Bugs > 0 {
		w.t.Fatalf("bugs: %+v", s)
	}
	w.checkHoldings()
}

func sameWarnings(a, b []Warning) bool {
	count := map[Warning]int{}
	for _, x := range a {
		count[x]++
	}
	for _, x := range b {
		count[x]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
