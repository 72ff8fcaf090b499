package dpserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func TestDrain(t *testing.T) {
	z := newZone(t, func(c *Config) { c.Authenticate = byLabel })
	drain := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		z.handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/drain", strings.NewReader(body)))
		return w
	}
	draining := func() string {
		return z.get(kind.Dataplane, "shop", "backend-1").Labels[resource.LabelDraining]
	}
	z.put(`{"type":"Dataplane","mesh":"shop","name":"backend-1","labels":{"app":"secret"},
		"networking":{"address":"192.0.2.1","inbound":[{"port":80}]}}`)

	for body, want := range map[string]int{
		`{`: http.StatusBadRequest,
		`{"mesh":"shop","name":"nobody","dataplaneToken":"secret"}`:   http.StatusNotFound,
		`{"mesh":"shop","name":"backend-1","dataplaneToken":"wrong"}`: http.StatusUnauthorized,
		`{"mesh":"shop","name":"backend-1"}`:                          http.StatusUnauthorized,
	} {
		if w := drain(body); w.Code != want || strings.TrimSpace(w.Body.String()) == "" {
			t.Errorf("%s: status %d %q, want %d and a reason", body, w.Code, w.Body, want)
		}
	}
	if draining() != "" {
		t.Fatal("a refused request took the proxy out")
	}
	if w := drain(`{"mesh":"shop","name":"backend-1","dataplaneToken":"secret"}`); w.Code != http.StatusNoContent {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	z.settle()
	if draining() != "true" {
		t.Fatal("the proxy is not marked")
	}
	z.mustOpen("backend-1", "", "secret")
	z.settle()
	if got := draining(); got != "" {
		t.Errorf("the proxy is back but still marked %q", got)
	}
}

// settle waits until the view has everything that was written.
func (z *zone) settle() {
	z.t.Helper()
	b, err := z.st.Read(z.t.Context(), 0, 1)
	if err == nil {
		_, err = z.cfg.View.Wait(z.t.Context(), b.Head)
	}
	if err != nil {
		z.t.Fatal(err)
	}
}
