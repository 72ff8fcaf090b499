package rest

import (
	"context"
	"testing"
)

func TestAdopt(t *testing.T) {
	calls := 0
	w := newWorld(t, federated, func(c *Config) {
		c.Adopt = func(context.Context) error { calls++; return nil }
	})
	w.wantStatus(w.do(request{method: "POST", path: "/zone/_adopt", remote: true}), 403)
	if calls != 0 {
		t.Fatal("somebody else may adopt a global")
	}
	w.wantStatus(w.do(request{method: "POST", path: "/zone/_adopt"}), 200)
	if calls != 1 {
		t.Errorf("adopted %d times", calls)
	}
	w.wantStatus(newWorld(t, standalone).do(request{method: "POST", path: "/zone/_adopt"}), 405)
}
