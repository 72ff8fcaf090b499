package dpserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// catchUp waits until the view has everything that was written.
func (z *zone) catchUp() {
	z.t.Helper()
	b, err := z.st.Read(z.t.Context(), z.cfg.View.Snapshot().Revision(), 1)
	if err == nil {
		_, err = z.cfg.View.Wait(z.t.Context(), b.Head)
	}
	if err != nil {
		z.t.Fatal(err)
	}
}

// entranceOf is an entrance of another zone, as the global sent it.
func (z *zone) entranceOf(name, zone, address string) {
	z.t.Helper()
	k := z.cfg.Kinds.ByType(kind.MeshZoneAddress)
	o, err := k.New(resource.Meta{
		ID:     resource.ID{Type: k.Type, Mesh: "shop", Name: name},
		Labels: map[string]string{resource.LabelZone: zone, resource.LabelOrigin: resource.OriginGlobal},
	}, &kind.MeshZoneAddressSpec{Address: address, Port: 10001}, nil)
	if err != nil {
		z.t.Fatal(err)
	}
	z.write(store.Put(o, store.Any, "test"))
}

// What zone proxies and those who were asked say of other zones is kept, once per
// entrance that there is, and written only when it is news.
func TestZoneProbes(t *testing.T) {
	z := newZone(t, nil)
	z.put(dataplaneJSON("cart-1", "127.0.0.1"))
	z.put(`{"type":"Dataplane","mesh":"shop","name":"zp","networking":{"address":"192.0.2.9","listeners":[{"type":"ZoneIngress","address":"192.0.2.9","port":10001}]}}`)
	z.entranceOf("west", "west", "192.0.2.1")
	post := func(name string, targets ...kind.ProbedTarget) int {
		t.Helper()
		b, err := json.Marshal(probeReport{"shop", name, targets})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/zone-probes", bytes.NewReader(b))
		w := httptest.NewRecorder()
		z.handler().ServeHTTP(w, r)
		return w.Code
	}
	row := func(name string) *resource.Object {
		return z.cfg.View.Snapshot().Get(resource.ID{Type: kind.ZoneProbe, Mesh: "shop", Name: name})
	}
	since := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	up := kind.ProbedTarget{Zone: "west", Address: "192.0.2.1", Port: 10001, State: kind.LinkUp, Since: since, RTTMillis: 2}
	other := up
	other.Address = "192.0.2.66"
	if status := post("zp", up, up, other); status != http.StatusNoContent {
		t.Fatalf("status %d", status)
	}
	z.catchUp()
	first := row("zp")
	if first == nil || len(resource.SpecOf[kind.ZoneProbeSpec](first).Targets) != 1 {
		t.Fatalf("kept %+v", first)
	}
	slower := up
	slower.RTTMillis = 4
	if post("zp", slower); row("zp").Version != first.Version {
		t.Error("a measurement that hardly moved was written")
	}
	down := up
	down.State, down.Since, down.Loss = kind.LinkDown, since.Add(time.Minute), 0.1
	post("zp", down)
	z.catchUp()
	if got := resource.SpecOf[kind.ZoneProbeSpec](row("zp")).Targets; len(got) != 1 || got[0].State != kind.LinkDown {
		t.Errorf("kept %+v", got)
	}

	if status := post("cart-1", up); status != http.StatusConflict || row("cart-1") != nil {
		t.Errorf("of a proxy that nobody asked: %d", status)
	}
	elected, err := z.cfg.Kinds.ByType(kind.ZoneProbe).New(resource.Meta{ID: resource.ID{Type: kind.ZoneProbe, Mesh: "shop", Name: "cart-1"}}, &kind.ZoneProbeSpec{Elected: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	z.write(store.Put(elected, store.Any, "test"))
	if status := post("cart-1", up); status != http.StatusNoContent {
		t.Errorf("of one that was: %d", status)
	}
	z.catchUp()
	if got := resource.SpecOf[kind.ZoneProbeSpec](row("cart-1")); !got.Elected || len(got.Targets) != 1 {
		t.Errorf("kept %+v", got)
	}
	if status := post("nope", up); status != http.StatusServiceUnavailable {
		t.Errorf("of nobody: %d", status)
	}
}

// Agents are asked to end connections to what was withdrawn, those that connect
// later too, and each only once.
func TestHangUps(t *testing.T) {
	z := newZone(t, nil)
	server := httptest.NewTLSServer(z.handler())
	defer server.Close()
	z.put(dataplaneJSON("cart-1", "127.0.0.1"))
	asked := make(chan string, 10)
	hear := func(path string) string { asked <- path; return "ok" }
	_, first := agentOf(t, server, "cart-1", "", hear)
	k := z.cfg.Kinds.ByType(kind.ZoneLink)
	link := func(observed string, withdrawn bool) {
		observer := z.cfg.Site.Zone
		o, err := k.New(resource.Meta{ID: resource.ID{Type: k.Type, Name: kind.ZoneLinkName(observer, observed)}}, &kind.ZoneLinkSpec{
			Observer: observer, Observed: observed, State: kind.LinkDown,
			Addresses: []kind.ZoneLinkAddress{{Mesh: "shop", Address: "192.0.2.1", Port: 10001, State: kind.LinkDown, Withdrawn: withdrawn}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		z.write(store.Put(o, store.Any, "test"))
		z.hangUps.look(t.Context())
	}
	link("west", false)
	link("west", true)
	const want = "/connections/end?to=192.0.2.1%3A10001"
	if got := <-asked; got != want {
		t.Errorf("asked for %s", got)
	}
	link("west", true)
	_, second := agentOf(t, server, "cart-1", "", hear)
	<-first
	if got := <-asked; got != want {
		t.Errorf("who came later was asked for %s", got)
	}
	link("west", false)
	if n := len(asked); n > 0 {
		t.Errorf("%d more questions", n)
	}
	z.questions.stop()
	<-second
}
