package compile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// TestShaping tells, for pieces of one proxy, whose conf is in them.
func TestShaping(t *testing.T) {
	w, a1, _, _ := small(t)
	const to = "type: MeshTimeout\nmesh: default\nname: %s\nspec:\n  targetRef: {kind: Mesh}\n  to: [{targetRef: %s, default: {connectionTimeout: %s, http: {requestTimeout: %[3]s}}}]\n"
	apply := func(name, ref, connect string) {
		w.apply(fmt.Sprintf(to, name, ref, connect))
	}
	apply("all", "{kind: Mesh}", "1s")
	apply("of-b", "{kind: MeshService, labels: {kuma.io/display-name: b}}", "2s")
	w.apply("type: MeshProxyPatch\nmesh: default\nname: patch\nspec: {default: {appendModifications: [{cluster: {operation: Patch, match: {name: kri_msvc_default_east__b_http}, value: \"connectTimeout: 9s\"}}]}}")
	w.apply("type: MeshRateLimit\nmesh: default\nname: limit\nspec: {targetRef: {kind: Dataplane}, rules: [{default: {local: {http: {requestRate: {num: 5, interval: 1s}}}}}]}")
	w.apply("type: MeshHTTPRoute\nmesh: default\nname: route\nspec: {to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: a}}, rules: [{matches: [{path: {type: PathPrefix, value: /x}}], default: {backendRefs: [{kind: MeshService, labels: {kuma.io/display-name: b}, port: 80, weight: 1}]}}]}]}")
	w.apply("type: MeshTimeout\nmesh: default\nname: elsewhere\nspec:\n  targetRef: {kind: Dataplane, labels: {app: b}}\n  to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 3s}}]\n")
	w.e.step()
	for _, c := range []struct {
		typ  xds.Type
		name string
		want string
	}{
		{xds.Clusters, "kri_msvc_default_east__a_http", "all"},
		{xds.Clusters, "kri_msvc_default_east__b_http", "patch"}, // it hides what the others say
		{xds.Routes, "kri_msvc_default_east__a_http", "route all"},
		{xds.Routes, "kri_msvc_default_east__b_http", "of-b"},
		{xds.Listeners, "self_inbound_dp_main", ""},
		{xds.Routes, "self_inbound_dp_main", "limit"},
	} {
		version, _ := served(t, a1, c.typ, c.name)
		got, ok := Shaping(w.e.in, w.e.snap, a1.info, c.typ, c.name, version)
		if !ok || policyNames(got) != c.want {
			t.Errorf("%s %s: %q, %t; want %q", c.typ, c.name, policyNames(got), ok, c.want)
		}
		if got, ok := Shaping(w.e.in, w.e.snap, a1.info, c.typ, c.name, "another"); ok || got != nil {
			t.Errorf("%s %s in another version: %v", c.typ, c.name, got)
		}
	}
}

func policyNames(list []*resource.Object) string {
	var out []string
	for _, o := range list {
		out = append(out, o.Name)
	}
	return strings.Join(out, " ")
}
