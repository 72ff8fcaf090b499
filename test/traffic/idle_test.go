package traffic_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TestIdleConnections: one client keeps its connection, as Envoys keep theirs to
// each other. The first request after a policy was written already shows what it
// says, and the first after its removal no more.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	w := startWide(t)
	var pooled http.Transport
	t.Cleanup(pooled.CloseIdleConnections)
	ask := func(path string) (status int, said string) {
		t.Helper()
		c := http.Client{Timeout: 10 * time.Second, Transport: &pooled, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := c.Get("http://" + w.at["MeshService"] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, fmt.Sprint(resp.Header, string(b))
	}
	of := func(kind, matches, conf string) string {
		return fmt.Sprintf("type: %s\nname: idle\nspec: {targetRef: {kind: Dataplane, labels: {app: server}}, rules: [{%sdefault: %s}]}", kind, matches, conf)
	}
	to := func(kind, body string) string {
		return fmt.Sprintf("type: %s\nname: idle\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: shop}}, %s}]}", kind, body)
	}
	client := "matches: [{spiffeID: {type: Exact, value: " + spiffe("client") + "}}], "
	clients := "matches: [{spiffeID: {type: Prefix, value: " + spiffe("cli") + "}}], "
	stranger := "matches: [{spiffeID: {type: Exact, value: " + spiffe("stranger") + "}}], "
	fault, rate, timeout := "{http: [{abort: {httpStatus: 418, percentage: 100}}]}", "{local: {http: {requestRate: {num: 1, interval: 1h}}}}", "{http: {requestTimeout: 50ms}}"
	for name, c := range map[string]struct {
		doc, path string
		want      int
	}{
		"MeshTrafficPermission/deny":  {of("MeshTrafficPermission", "", "{deny: [{spiffeID: {type: Exact, value: "+spiffe("client")+"}}]}"), "/", 403},
		"MeshTrafficPermission/other": {of("MeshTrafficPermission", "", "{deny: [{spiffeID: {type: Exact, value: "+spiffe("clients")+"}}]}"), "/", 200},
		"MeshFaultInjection":          {of("MeshFaultInjection", "", fault), "/", 418},
		"MeshFaultInjection/client":   {of("MeshFaultInjection", client, fault), "/", 418},
		"MeshFaultInjection/clients":  {of("MeshFaultInjection", clients, fault), "/", 418},
		"MeshFaultInjection/stranger": {of("MeshFaultInjection", stranger, fault), "/", 200},
		"MeshRateLimit":               {of("MeshRateLimit", "", rate), "/", 429},
		"MeshRateLimit/client":        {of("MeshRateLimit", client, rate), "/", 429},
		"MeshRateLimit/stranger":      {of("MeshRateLimit", stranger, rate), "/", 200},
		"MeshTimeout/rules":           {of("MeshTimeout", "", timeout), "/slow", 504},
		"MeshTimeout/client":          {of("MeshTimeout", client, timeout), "/slow", 504},
		"MeshTimeout/clients":         {of("MeshTimeout", clients, timeout), "/slow", 504},
		"MeshTimeout/stranger":        {of("MeshTimeout", stranger, timeout), "/slow", 200},
		"MeshTimeout/to":              {to("MeshTimeout", "default: "+timeout), "/slow", 504},
		"MeshHTTPRoute/redirect":      {to("MeshHTTPRoute", "rules: [{matches: [{path: {type: PathPrefix, value: /}}], default: {filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307, hostname: a.test}}]}}]"), "/", 307},
		"MeshHTTPRoute/nowhere":       {to("MeshHTTPRoute", "rules: [{matches: [{path: {type: PathPrefix, value: /}}], default: {backendRefs: [{kind: MeshService, labels: {app: nowhere}, port: 80}]}}]"), "/", 500},
	} {
		t.Run(name, func(t *testing.T) {
			if status, said := ask(c.path); status != 200 {
				t.Fatalf("before: %d %s", status, said)
			}
			w.Apply(t, c.doc)
			if strings.Contains(name, "RateLimit") {
				ask(c.path) // is within the limit
			}
			if status, said := ask(c.path); status != c.want {
				t.Errorf("the first request after: %d, want %d: %s", status, c.want, said)
			}
			kind, _, _ := strings.Cut(name, "/")
			w.Remove(t, resource.Type(kind), "idle")
			if status, said := ask(c.path); status != 200 {
				t.Errorf("the first request after the removal: %d: %s", status, said)
			}
		})
	}
}
