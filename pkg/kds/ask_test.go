package kds

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// TestGlobalAsksAboutProxies asks through the streams of a zone: many at a time,
// of which some are never answered, and of zones that are not there.
func TestGlobalAsksAboutProxies(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	say := func(what string) func(context.Context, AdminQuestion) ([]byte, error) {
		return func(ctx context.Context, q AdminQuestion) ([]byte, error) {
			switch q.Name {
			case "gone":
				return nil, errors.New("there is no such proxy")
			case "slow":
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return fmt.Appendf(nil, "%s of %s %s/%s eds=%t used=%t json=%t", what, q.Type, q.Mesh, q.Name, q.IncludeEDS, q.UsedOnly, q.JSON), nil
		}
	}
	east := newSite(t, "east")
	_, leave := east.join(global.address, func(c *ZoneConfig) {
		c.Admin = &Admin{Config: say("config"), Stats: say("stats"), Clusters: say("clusters")}
	})
	streams := func(s *view.Snapshot) *systemv1.KDSStreams {
		o := s.Get(resource.ID{Type: kind.ZoneInsight, Name: "east"})
		if o == nil {
			return nil
		}
		return resource.SpecOf[systemv1.ZoneInsight](o).GetKdsStreams()
	}
	global.until("all streams", func(s *view.Snapshot) bool {
		k := streams(s)
		return k.GetClusters() != nil && k.GetConfigDump() != nil && k.GetStats() != nil
	})

	q := AdminQuestion{Type: "Dataplane", Mesh: "default", Name: "a"}
	for _, tc := range []struct {
		ask  func(context.Context, string, AdminQuestion) ([]byte, error)
		q    func(*AdminQuestion)
		want string
	}{
		{global.g.AskConfig, func(q *AdminQuestion) { q.IncludeEDS = true }, "config of Dataplane default/a eds=true used=false json=false"},
		{global.g.AskStats, func(q *AdminQuestion) { q.UsedOnly = true }, "stats of Dataplane default/a eds=false used=true json=false"},
		{global.g.AskClusters, func(q *AdminQuestion) { q.JSON = true }, "clusters of Dataplane default/a eds=false used=false json=true"},
	} {
		asked := q
		tc.q(&asked)
		if b, err := tc.ask(t.Context(), "east", asked); err != nil || string(b) != tc.want {
			t.Errorf("%q %v, want %q", b, err, tc.want)
		}
	}

	var wg sync.WaitGroup
	impatient, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() {
		slow := q
		slow.Name = "slow"
		if _, err := global.g.AskStats(impatient, "east", slow); err == nil {
			t.Error("a question that was given up is answered")
		}
	})
	for i := range 50 {
		wg.Go(func() {
			mine := q
			mine.Name = fmt.Sprint("p", i)
			b, err := global.g.AskStats(t.Context(), "east", mine)
			if err != nil || !strings.Contains(string(b), "/"+mine.Name+" ") {
				t.Errorf("%s: %q %v", mine.Name, b, err)
			}
			if i == 49 {
				cancel()
			}
		})
	}
	wg.Wait()

	gone := q
	gone.Name = "gone"
	fails := func(what, zone string, q AdminQuestion, says string) {
		t.Helper()
		if _, err := global.g.AskClusters(t.Context(), zone, q); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want words about %q", what, err, says)
		}
	}
	fails("a proxy that is gone", "east", gone, "no such proxy")
	fails("a zone that never was", "west", q, "never connected")
	leave()
	global.until("offline", func(s *view.Snapshot) bool { return offline(s, "east") })
	fails("a zone that left", "east", q, "offline")

	// With another instance of the global the answer is whom to ask.
	other := NewGlobal(GlobalConfig{View: global.view, Store: global.store, InstanceID: "g2"})
	east.join(global.address, nil)
	global.until("online", func(s *view.Snapshot) bool { return !offline(s, "east") && streams(s).GetClusters() != nil })
	if _, err := other.AskClusters(t.Context(), "east", q); err == nil || !strings.Contains(err.Error(), "g1") {
		t.Errorf("asked at another instance: %v", err)
	}
}
