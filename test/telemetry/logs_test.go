package telemetry

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func body(resp *http.Response) string {
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(b)
}

// logsByTCP shows that agents send lines on: of clients, whose configuration is
// shared, of routes, and of servers, for HTTP and for bytes.
func logsByTCP(t *testing.T, w *world) {
	to := takeLines(t)
	w.apply(t, fmt.Sprintf(`type: MeshHTTPRoute
mesh: shop
name: one
labels: {route: one}
spec:
  targetRef: {kind: Mesh}
  to:
  - targetRef: {kind: MeshService, labels: {kuma.io/display-name: web}}
    rules: [{matches: [{path: {type: PathPrefix, value: /one}}], default: {}}]
---
type: MeshAccessLog
mesh: shop
name: out
spec:
  targetRef: {kind: Mesh}
  to:
  - targetRef: {kind: MeshService, labels: {kuma.io/display-name: web}}
    default: {backends: [{type: Tcp, tcp: {address: "127.0.0.1:%d", format: {type: Plain, plain: "out %%KUMA_SOURCE_SERVICE%% %%KUMA_DESTINATION_SERVICE%% %%KUMA_SOURCE_ADDRESS%% %%KUMA_TRAFFIC_DIRECTION%% %%KUMA_WORKLOAD%% %%KUMA_ZONE%% %%PROTOCOL%%"}}}]}
  - targetRef: {kind: MeshMultiZoneService, labels: {kuma.io/display-name: everywhere}}
    default: {backends: [{type: Tcp, tcp: {address: "127.0.0.1:%[1]d", format: {type: Json, omitEmptyValues: true, json: [{key: zones, value: "%%RESPONSE_CODE%%"}, {key: none, value: "%%REQ(x-none)%%"}]}}}]}
  - targetRef: {kind: MeshHTTPRoute, labels: {route: one}}
    default: {backends: [{type: Tcp, tcp: {address: "127.0.0.1:%[1]d", format: {type: Plain, plain: "route %%KUMA_MESH%%"}}}]}
---
type: MeshAccessLog
mesh: shop
name: in
spec:
  targetRef: {kind: Dataplane, labels: {app: web-1}}
  rules:
  - default: {backends: [{type: Tcp, tcp: {address: "tcp://127.0.0.1:%[1]d", format: {type: Json, omitEmptyValues: true, json: [{key: side, value: in}, {key: to, value: "%%KUMA_DESTINATION_SERVICE%%"}, {key: code, value: "%%RESPONSE_CODE%%"}, {key: none, value: "%%REQ(x-none)%%"}]}}}, {type: Tcp, tcp: {address: "127.0.0.1:%[1]d", format: {type: Plain, plain: "in %%KUMA_TRAFFIC_DIRECTION%%"}}}]}`, to.port))
	until(t, "a request is not logged by TCP on both sides", func() bool {
		w.call(t)
		callURL(t, w.client.URL(callHTTP)+"one")
		callURL(t, w.client.URL(callZones))
		w.connect()
		return to.has("in INBOUND") && to.has(`"zones":200`) && to.has("out client web "+w.client.Spec.Address+":0 OUTBOUND kri_wl_shop_east__client_ east HTTP/1.1") &&
			to.has("out client web ", " east -") && to.has("route shop") &&
			to.has(`"side":"in"`, `"to":"kri_dp_shop_east__web-1_main"`, `"code":200`) && to.has(`"to":"kri_dp_shop_east__web-1_bytes"`)
	})
	for line := range strings.Lines(to.String()) {
		if strings.HasPrefix(line, "{") && (!json.Valid([]byte(line)) || strings.Contains(line, "none")) {
			t.Errorf("a line is %s", line)
		}
	}
	// A proxy whose agent lacks the descriptor is like that of the reference. What
	// was logged must go on after the receiver went away and came back.
	w.remove(t, "meshaccesslogs", "out")
	w.remove(t, "meshaccesslogs", "in")
	w.remove(t, "meshhttproutes", "one")
}

// logsToFiles shows the formats of files, and whose requests a rule is about.
func logsToFiles(t *testing.T, w *world) {
	dir := t.TempDir()
	w.apply(t, fmt.Sprintf(`type: MeshAccessLog
mesh: shop
name: files
spec:
  targetRef: {kind: Dataplane}
  rules:
  - {default: {backends: [{type: File, file: {path: %s/plain, format: {type: Plain, plain: "%%KUMA_MESH%% %%RESPONSE_CODE%%"}}}, {type: File, file: {path: %[1]s/json, format: {type: Json, omitEmptyValues: true, json: [{key: code, value: "%%RESPONSE_CODE%%"}, {key: none, value: "%%REQ(x-none)%%"}]}}}, {type: File, file: {path: %[1]s/default}}]}}
  - {matches: [{spiffeID: {type: Exact, value: "spiffe://nobody/x"}}, {spiffeID: {type: Prefix, value: "spiffe://nobody"}}, {sni: {type: Exact, value: nobody.example}}], default: {backends: [{type: File, file: {path: %[1]s/never}}]}}`, dir))
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("plain:\n%s\njson:\n%s\ndefault:\n%s", read("plain"), read("json"), read("default"))
		}
	})
	until(t, "requests are not logged to files", func() bool {
		w.call(t)
		return hasAll(read("plain"), "shop 200") && hasAll(read("json"), `{"code":200}`) && hasAll(read("default"), `shop "GET / HTTP/2" 200`)
	})
	w.apply(t, fmt.Sprintf(`type: MeshAccessLog
mesh: shop
name: clients
spec:
  targetRef: {kind: Dataplane, labels: {app: client-1}}
  to:
  - {targetRef: {kind: Mesh}, default: {backends: [{type: File, file: {path: %s/all, format: {type: Plain, plain: "all %%KUMA_DESTINATION_SERVICE%%"}}}]}}
  - {targetRef: {kind: MeshService, labels: {kuma.io/display-name: web}, sectionName: bytes}, default: {backends: [{type: File, file: {path: %[1]s/bytes}}]}}
  - {targetRef: {kind: MeshMultiZoneService, labels: {kuma.io/display-name: everywhere}}, default: {backends: [{type: File, file: {path: %[1]s/zones, format: {type: Json, omitEmptyValues: true, json: [{key: to, value: "%%KUMA_DESTINATION_SERVICE%%"}, {key: none, value: "%%REQ(x-none)%%"}]}}}]}}
  - {targetRef: {kind: MeshExternalService, labels: {kuma.io/display-name: outside}}, default: {backends: [{type: File, file: {path: %[1]s/outside, format: {type: Plain, plain: "%%KUMA_DESTINATION_SERVICE%% %%RESPONSE_CODE%%"}}}]}}`, dir))
	until(t, "each destination is not logged where it belongs", func() bool {
		w.call(t)
		w.connect()
		callURL(t, w.client.URL(callZones))
		callURL(t, w.client.URL(callOutside))
		return hasAll(read("all"), "all web") && hasAll(read("bytes"), "(client)->", "(web) took") &&
			hasAll(read("zones"), `{"to":"everywhere"}`) && hasAll(read("outside"), "outside 503")
	})
	if got := read("all"); hasAll(got, "everywhere") || hasAll(got, "outside") || hasAll(read("zones"), "web") {
		t.Errorf("what is for one destination is logged elsewhere: %s", got)
	}
	w.remove(t, "meshaccesslogs", "clients")
	if got := read("never"); got != "" {
		t.Errorf("logged for clients that do not match: %s", got)
	}
	w.apply(t, "type: MeshAccessLog\nmesh: shop\nname: files\nspec: {targetRef: {kind: Dataplane}, rules: [{default: {backends: []}}]}")
	w.remove(t, "meshaccesslogs", "files")
}
