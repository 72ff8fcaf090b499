package traffic_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// patchesOfEgress: filters, hosts and clusters of a zone egress can be edited, and
// what is for origins of other proxies leaves it alone.
func (w *wide) patchesOfEgress(t *testing.T) {
	const lua = `httpFilter: {operation: AddBefore, match: {origin: %s, name: envoy.filters.http.router}, value: '{name: envoy.filters.http.lua, typedConfig: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, defaultSourceCode: {inlineString: "function envoy_on_response(h) h:headers():add(\"x-patched\", \"filter\") end"}}}'}`
	const host = `virtualHost: {operation: Patch, match: {origin: %s}, jsonPatches: [{op: add, path: /responseHeadersToAdd, value: [{header: {key: x-patched, value: host}}]}]}`
	const cluster = `cluster: {operation: Remove, match: {origin: %s, name: kri_extsvc_default_east__pay_443}}`
	shows := func() string {
		got := w.get(t, "MeshExternalService", "/")
		if got.Status != http.StatusOK {
			return fmt.Sprint(got.Status)
		}
		return got.Header.Get("x-patched")
	}
	for _, c := range []struct{ modification, origin, want string }{
		{lua, "inbound", ""}, {lua, "egress", "filter"},
		{host, "outbound", ""}, {host, "egress", "host"},
		{cluster, "outbound", ""}, {cluster, "egress", "503"},
	} {
		w.Apply(t, "type: MeshProxyPatch\nname: gate\nspec: {targetRef: {kind: Dataplane, labels: {app: egress}}, default: {appendModifications: [{"+fmt.Sprintf(c.modification, c.origin)+"}]}}")
		traffic.Until(t, fmt.Sprintf("%s %s: not %q", c.origin, c.modification, c.want), func() bool { return shows() == c.want })
		w.Remove(t, "MeshProxyPatch", "gate")
		traffic.Until(t, "the patch stays", func() bool { return shows() == "" })
	}
}
