// Package rejection proves what happens when an Envoy refuses configuration: it
// goes on, others are not held up, and the user is told which policy it was.
package rejection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const patch = `
type: MeshProxyPatch
mesh: default
name: script
spec:
  targetRef: {kind: Dataplane, labels: {odd: "yes"}}
  default:
    appendModifications:
    - httpFilter:
        operation: AddFirst
        match: {origin: outbound}
        value: |
          name: script
          typedConfig:
            "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            defaultSourceCode: {inlineString: %q}
`

func route(change string) string {
	return strings.ReplaceAll(clustertest.Route("canary", change, 1, 0, false), "mesh: "+clustertest.Mesh, "mesh: default")
}

// TestRejection gives one of two proxies a script that does not compile.
func TestRejection(t *testing.T) {
	ctx := t.Context()
	c := clustertest.New(t)
	zone, err := c.Zone(ctx, "east", "ATOLL_DP_SERVER_AUTHN_DP_PROXY_TYPE=none")
	if err != nil {
		t.Fatal(err)
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	t.Cleanup(app.Close)
	u, err := url.Parse(app.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	start := func(spec cluster.ProxySpec) *cluster.Proxy {
		t.Helper()
		spec.Mesh = "default"
		p, err := c.Proxy(ctx, zone, nil, spec)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	start(cluster.ProxySpec{Name: "backend-1", Labels: map[string]string{"kuma.io/workload": "backend"}, AppPort: port})
	out := map[int]string{clustertest.Port: "backend"}
	steady := start(cluster.ProxySpec{Name: "steady", Outbounds: out}).URL(clustertest.Port)
	odd := start(cluster.ProxySpec{Name: "odd", Labels: map[string]string{"odd": "yes"}, Outbounds: out}).URL(clustertest.Port)
	apply := func(text string) {
		t.Helper()
		if out, errOut, code := clustertest.Ctl(t, c, zone.URL, text, "apply", "-f", "-"); code != 0 {
			t.Fatalf("apply: %d\n%s%s", code, out, errOut)
		}
	}
	changed := func(change string) {
		t.Helper()
		apply(route(change))
		for _, url := range []string{steady, odd} {
			if err := clustertest.AwaitChange(ctx, clustertest.Patience, url, change); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, url := range []string{steady, odd} {
		if err := cluster.WaitAnswer(ctx, clustertest.Patience, url); err != nil {
			t.Fatal(err)
		}
	}
	changed("before")

	begun := time.Now()
	apply(fmt.Sprintf(patch, "this is no Lua"))
	var policy struct {
		ModificationTime string
		Status           struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	until := func(what string, met func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, clustertest.Patience)
		defer cancel()
		if err := cluster.Until(ctx, what, func(ctx context.Context) error {
			policy.Status.Conditions = nil
			if err := zone.Do(ctx, http.MethodGet, "/meshes/default/meshproxypatches/script", nil, &policy); err != nil {
				return err
			}
			if !met() {
				return errors.New("not yet")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	until("the policy says that it is rejected", func() bool { return len(policy.Status.Conditions) == 1 })
	t.Logf("known after %s", time.Since(begun))
	if got := policy.Status.Conditions[0]; got.Type != "Rejected" || got.Status != "True" || !strings.Contains(got.Message, "script load error") || !strings.Contains(got.Message, "(odd)") {
		t.Errorf("the policy says %+v", got)
	}
	wide, _, _ := clustertest.Ctl(t, c, zone.URL, "", "get", "meshproxypatches", "-o", "wide")
	if !strings.Contains(wide, "Rejected") {
		t.Errorf("atollctl get -o wide:\n%s", wide)
	}
	table, _, _ := clustertest.Ctl(t, c, zone.URL, "", "inspect", "dataplane", "odd", "--type", "rejections")
	if !strings.Contains(table, "kri_mpp_default_") || !strings.Contains(table, "script load error") {
		t.Errorf("atollctl inspect dataplane odd --type rejections:\n%s", table)
	}
	for _, url := range []string{steady, odd} {
		if _, err := clustertest.Change(ctx, url); err != nil {
			t.Errorf("with the rejected policy: %v", err)
		}
	}
	begun = time.Now()
	changed("while it is refused") // neither the other proxy nor the same one waits
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("a change took %s while a proxy refuses another one", took)
	} else {
		t.Logf("a change took %s meanwhile", took)
	}
	// An older policy and one that says nothing about the listener are not blamed.
	var timeouts struct {
		Items []struct {
			Name   string
			Status struct{ Conditions []struct{ Type string } }
		}
	}
	if err := zone.Do(ctx, http.MethodGet, "/meshes/default/meshtimeouts", nil, &timeouts); err != nil {
		t.Fatal(err)
	}
	for _, p := range timeouts.Items {
		if len(p.Status.Conditions) > 0 {
			t.Errorf("MeshTimeout %s is blamed", p.Name)
		}
	}

	apply(fmt.Sprintf(patch, "function envoy_on_response(h) h:headers():replace('x-lua', 'yes') end"))
	until("the policy is accepted", func() bool { return len(policy.Status.Conditions) == 0 })
	if err := cluster.Until(ctx, "the script runs", func(ctx context.Context) error {
		r, err := http.Get(odd)
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		if r.Header.Get("x-lua") != "yes" {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
