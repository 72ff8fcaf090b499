package rest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

var kumactlHeader = map[string]string{
	"User-Agent": "kumactl/3.0.0 (linux; amd64; Kuma/abc)", "Accept": "application/json",
}

// kumactl calls the API as that program does.
type kumactl struct{ *world }

func (k kumactl) call(method, path, body string, status int) map[string]any {
	k.t.Helper()
	a := k.do(request{method: method, path: path, body: body, header: kumactlHeader})
	if a.Status != status {
		k.t.Errorf("%s %s: %d, want %d: %.300s", method, path, a.Status, status, a.Body)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil && !strings.HasPrefix(path, "/tokens/") && a.Header.Get("Content-Type") == "application/json" {
		k.t.Errorf("%s %s: %v", method, path, err)
	}
	if a.Status >= 400 && v["title"] == "" {
		k.t.Errorf("%s %s: an error without title: %s", method, path, a.Body)
	}
	return v
}

// apply is "kumactl apply": it looks whether the resource exists, and puts it
// with times of zero.
func (k kumactl) apply(path, body string, exists bool) {
	k.t.Helper()
	k.call("GET", "/", "", 200)
	before, after := 404, 201
	if exists {
		before, after = 200, 200
	}
	k.call("GET", path, "", before)
	zero := `{"creationTime":"0001-01-01T00:00:00Z","modificationTime":"0001-01-01T00:00:00Z","kri":"kri_x_____",`
	k.call("PUT", path, zero+strings.TrimPrefix(body, "{"), after)
	doc := k.call("GET", path, "", 200)
	for _, member := range []string{"type", "name", "creationTime", "modificationTime"} {
		if doc[member] == nil {
			k.t.Errorf("%s has no %s", path, member)
		}
	}
	if doc["creationTime"] == "0001-01-01T00:00:00Z" {
		k.t.Errorf("%s: the time of the request was taken", path)
	}
}

// The shapes that kumactl decodes answers into: a member of another type is an
// error there, and an absent one counts as its zero value.
type (
	kumactlIndex struct {
		Hostname, Product, Version, InstanceID, ClusterID, GUI string
		BasedOnKuma                                            *string
	}
	kumactlKinds struct {
		Resources []struct {
			Name, Scope, Path, SingularDisplayName, PluralDisplayName, ShortName string
			ReadOnly, IncludeInFederation                                        bool
			Policy                                                               *struct {
				IsTargetRef, HasToTargetRef, HasFromTargetRef, HasRulesTargetRef, IsFromAsRules bool
			}
		}
	}
	kumactlPolicies struct {
		Policies []struct {
			Name, Path, SingularDisplayName, PluralDisplayName string
			ReadOnly, IsExperimental, IsTargetRefBased         bool
			IsInbound, IsOutbound                              bool
		}
	}
	kumactlList struct {
		Total uint32
		Items []json.RawMessage
		Next  *string
	}
	kumactlMeta struct {
		Type, Mesh, Name, KRI          string
		CreationTime, ModificationTime time.Time
		Labels                         map[string]string
	}
	kumactlCounts    struct{ Total, Online, Offline, PartiallyDegraded uint32 }
	kumactlMeshState struct {
		kumactlMeta
		Dataplanes *kumactlCounts // not checked for nil
		DpVersions struct{ KumaDp, Envoy map[string]kumactlCounts }
		MTLS       struct{ IssuedBackends, SupportedBackends map[string]kumactlCounts }
		Resources  map[string]struct{ Total uint32 }
	}
	kumactlSubscription struct {
		ID, Config                  string
		ConnectTime, DisconnectTime *time.Time
		Status                      struct {
			LastUpdateTime *time.Time
			Total          struct {
				ResponsesSent, ResponsesAcknowledged, ResponsesRejected uint64 `json:",string"`
			}
		}
		Version struct {
			KumaCp, KumaDp, Envoy struct{ Version string }
		}
	}
	kumactlOverview struct {
		kumactlMeta
		Zone        *struct{ Enabled *bool }
		ZoneInsight *struct{ Subscriptions []kumactlSubscription }
		Dataplane   *struct {
			Networking struct {
				Address string
				Inbound []struct{ Port uint32 }
			}
		}
		DataplaneInsight *struct{ Subscriptions []kumactlSubscription }
	}
	kumactlInspected struct {
		Policies []struct {
			Kind    string
			Conf    json.RawMessage
			Origins []struct{ KRI string }
		}
	}
	kumactlSelected struct {
		Total uint32
		Items []struct {
			Kind        string
			Dataplane   struct{ Mesh, Name string }
			Attachments []struct{ Type, Name, Service string }
		}
	}
)

// read makes a call that has to succeed, and decodes the answer as kumactl does.
func read[T any](k kumactl, path string) T {
	k.t.Helper()
	var v T
	a := k.do(request{path: path, header: kumactlHeader})
	k.wantStatus(a, 200)
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil {
		k.t.Errorf("GET %s: kumactl would fail: %v in %.300s", path, err, a.Body)
	}
	return v
}

// TestKumactl makes the calls of every command of kumactl to a global, to a zone
// of its own and to a zone of a global.
func TestKumactl(t *testing.T) {
	for name, site := range map[string]resource.Site{"global": global, "zone": standalone, "federated zone": federated} {
		t.Run(name, func(t *testing.T) { testKumactl(t, site) })
	}
}

func testKumactl(t *testing.T, site resource.Site) {
	w := newWorld(t, site, inspecting(site))
	w.withKeys()
	zone := "east"
	if site.Zone != "" {
		zone = site.Zone
	}
	const subscription = `{"id":"1","connectTime":"2026-01-02T03:04:05Z","status":{"lastUpdateTime":"2026-01-02T03:04:06Z","total":{"responsesSent":"3"}},"version":{},"config":"{\"store\":{\"type\":\"memory\"}}"}`
	w.write(
		w.object(kind.Dataplane, "default", "web-1", dataplaneBody("web-1", map[string]string{"kuma.io/zone": zone})),
		w.object(kind.DataplaneInsight, "default", "web-1", `{"subscriptions":[{"id":"1","connectTime":"2026-01-02T03:04:05Z","status":{"total":{"responsesSent":"7"}}}]}`),
		w.object(kind.Zone, "", zone, `{"enabled":true}`),
		w.object(kind.ZoneInsight, "", zone, `{"subscriptions":[`+subscription+`]}`),
	)
	k := kumactl{w}

	// config control-planes add
	index := read[kumactlIndex](k, "/")
	if index.Product != "Kuma" || !strings.HasPrefix(index.Version, "3.") {
		t.Errorf("%+v would be refused", index)
	}
	read[kumactlPolicies](k, "/policies")

	// apply, delete
	const timeout = `{"type":"MeshTimeout","mesh":"default","name":"mine","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"1m"}}]}}`
	const mine = "/meshes/default/meshtimeouts/mine"
	own := timeout
	if site.Federated {
		k.call("PUT", mine, timeout, 400) // says which label is missing
		own = strings.Replace(timeout, `"name"`, `"labels":{"kuma.io/origin":"zone"},"name"`, 1)
		k.call("PUT", "/meshes/shop", `{"type":"Mesh","name":"shop"}`, 405)
	} else {
		k.apply("/meshes/shop", `{"type":"Mesh","name":"shop"}`, false)
		k.call("DELETE", "/meshes/shop", "", 200)
	}
	k.call("DELETE", "/meshes/shop", "", map[bool]int{true: 405, false: 404}[site.Federated])
	k.apply(mine, own, false)
	k.apply(mine, own, true)
	k.call("PUT", mine, strings.Replace(own, `"spec":{`, `"spec":{"to":[{"targetRef":{"kind":"Nothing"}}],"x":{`, 1), 400)
	k.apply("/meshes/default/secrets/pass", `{"type":"Secret","mesh":"default","name":"pass","data":"eA=="}`, false)
	k.apply("/globalsecrets/pass", `{"type":"GlobalSecret","name":"pass","data":"eA=="}`, false)
	k.call("DELETE", "/globalsecrets/pass", "", 200)

	// get of every kind, and export, which lists kinds first
	kinds := read[kumactlKinds](k, "/_resources").Resources
	for _, raw := range read[kumactlList](k, "/meshes").Items {
		var mesh kumactlMeta
		if err := json.Unmarshal(raw, &mesh); err != nil {
			t.Fatal(err)
		}
		for _, kind := range kinds {
			if w.kinds.ByType(resource.Type(kind.Name)).Native {
				t.Errorf("kumactl does not know what a %s is", kind.Name)
			}
			path := "/" + kind.Path
			if kind.Scope == "Mesh" {
				path = "/meshes/" + mesh.Name + path
			}
			k.list(path, kind.Name)
		}
	}

	// inspect
	for _, raw := range read[kumactlList](k, "/mesh-insights").Items {
		var m kumactlMeshState
		if err := json.Unmarshal(raw, &m); err != nil || m.Dataplanes == nil {
			t.Errorf("inspect meshes fails: %v: %s", err, raw)
		}
	}
	zones := read[struct{ Items []kumactlOverview }](k, "/zones/_overview").Items
	if len(zones) != 1 || len(zones[0].ZoneInsight.Subscriptions) != 1 || !json.Valid([]byte(zones[0].ZoneInsight.Subscriptions[0].Config)) {
		t.Errorf("inspect zones fails: %+v", zones)
	}
	proxies := read[struct{ Items []kumactlOverview }](k, "/meshes/default/dataplanes/_overview?gateway=false").Items
	if len(proxies) != 1 || proxies[0].Dataplane == nil || proxies[0].DataplaneInsight.Subscriptions[0].Status.Total.ResponsesSent != 7 {
		t.Errorf("inspect dataplanes: %+v", proxies)
	}
	read[kumactlList](k, "/meshes/default/dataplanes/_overview?tag=a:b&gateway=true&ingress=true")
	proxy := "/meshes/default/dataplanes/web-1/"
	read[kumactlInspected](k, proxy+"_policies")
	for _, path := range []string{"policies", "xds?include_eds=true", "stats", "clusters", "_rules", "_layout"} {
		k.call("GET", proxy+path, "", 200)
	}
	k.call("GET", proxy+"_config?shadow=false&include=", "", map[bool]int{true: 405, false: 200}[site.Global])
	k.call("GET", proxy+"_config?shadow=true&include=diff", "", map[bool]int{true: 405, false: 200}[site.Global])
	if got := read[kumactlSelected](k, mine+"/dataplanes"); len(got.Items) != 1 || got.Items[0].Dataplane.Name != "web-1" {
		t.Errorf("inspect meshtimeout: %+v", got)
	}
	read[kumactlList](k, mine+"/-resources/dataplanes?offset=0")

	k.tokens(map[string]int{"/tokens/dataplane": 200, "/tokens/zone": 200, "/tokens/user": 200})
	k.call("DELETE", mine, "", 200)
	k.call("DELETE", mine, "", 404)
}

// list is "kumactl get" of a kind, one page at a time, and of each of its items.
func (k kumactl) list(path, typ string) {
	k.t.Helper()
	seen, offset := 0, ""
	for {
		list := read[kumactlList](k, path+"?size=1"+offset)
		seen += len(list.Items)
		for _, raw := range list.Items {
			var doc kumactlMeta
			if err := json.Unmarshal(raw, &doc); err != nil || doc.Type != typ {
				k.t.Errorf("%s has a %s: %v", path, doc.Type, err)
			}
			one := path + "/" + doc.Name
			if got := read[kumactlMeta](k, one); got.Name != doc.Name || got.CreationTime.IsZero() && typ != "MeshInsight" {
				k.t.Errorf("%s is %+v", one, got)
			}
			k.call("GET", one+"?format=k8s", "", 200)
		}
		if list.Next == nil {
			if seen != int(list.Total) {
				k.t.Errorf("%s: pages hold %d of %d", path, seen, list.Total)
			}
			break
		}
		next, err := url.Parse(*list.Next)
		if err != nil || next.Query().Get("offset") == "" {
			k.t.Fatalf("%s: next %q: %v", path, *list.Next, err)
		}
		offset = "&offset=" + next.Query().Get("offset")
	}
	k.call("GET", path+"/no-such", "", 404)
}

// tokens is "kumactl generate …-token".
func (k kumactl) tokens(want map[string]int) {
	k.t.Helper()
	for path, body := range map[string]string{
		"/tokens/dataplane": `{"name":"web-1","mesh":"default","tags":{"a":["b"]},"type":"","workload":"","validFor":"1h0m0s"}`,
		"/tokens/zone":      `{"zone":"east","scope":["cp"],"validFor":"1h0m0s"}`,
		"/tokens/user":      `{"name":"joe","groups":["ops"],"validFor":"1h0m0s"}`,
	} {
		a := k.do(request{method: "POST", path: path, body: body, header: kumactlHeader})
		k.wantStatus(a, want[path])
		if a.Status == 200 && (!strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") || strings.Count(strings.TrimSpace(a.Body), ".") != 2) {
			k.t.Errorf("%s: %s %q is no token", path, a.Header.Get("Content-Type"), a.Body)
		}
	}
}

// TestKumactlExportsEverything: it asks for lists without size and never for a
// second page.
func TestKumactlExportsEverything(t *testing.T) {
	w := newWorld(t, standalone)
	var objects []*resource.Object
	for i := range maxPage + 1 {
		objects = append(objects, w.object(kind.Dataplane, "default", fmt.Sprintf("web-%d", i), dataplaneBody("web", nil)))
	}
	w.write(objects...)
	const path = "/meshes/default/dataplanes"
	if got := read[kumactlList](kumactl{w}, path); len(got.Items) != len(objects) {
		t.Errorf("kumactl gets %d of %d", len(got.Items), len(objects))
	}
	if got := read[kumactlList](kumactl{w}, path+"?size=2"); len(got.Items) != 2 || got.Next == nil {
		t.Errorf("a page of 2 has %d", len(got.Items))
	}
	if got := w.list(path); len(got.Items) != defaultPage || got.Next == nil {
		t.Errorf("others get %d", len(got.Items))
	}
}
