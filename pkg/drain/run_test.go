package drain_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/drain"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// TestRun drains a zone while leaders come and go, and what would break comes and
// goes, in virtual time.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kinds, st := resource.NewKinds(kind.All()...), memory.Open()
		v := view.New(kinds, resource.Site{Global: true}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		followed := make(chan struct{})
		go func() { defer close(followed); _ = view.Follow(ctx, st, v) }()
		put := func(typ resource.Type, name string, spec any) {
			id := resource.ID{Type: typ, Name: name}
			rev, err := view.Edit(ctx, v, st, id, "test", func(*resource.Object) (*resource.Object, error) {
				if spec == nil {
					return nil, nil
				}
				return kinds.ByType(typ).New(resource.Meta{ID: id, Labels: map[string]string{}}, spec, nil)
			})
			if err == nil {
				_, err = v.Wait(ctx, rev)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var reasons atomic.Pointer[[]string]
		var looks atomic.Int64
		var behind atomic.Bool
		var proxies atomic.Pointer[kind.DrainProxies]
		reasons.Store(&[]string{"no"})
		lead := func() (stop func()) {
			ctx, cancel := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() {
				ended <- drain.Run(ctx, drain.Config{
					View: v, Store: st, Log: slog.New(slog.DiscardHandler),
					Reasons: func(*view.Snapshot, string, drain.Target) ([]string, error) {
						looks.Add(1)
						return *reasons.Load(), nil
					},
					Sync: func(string) *system_proto.ZoneSync {
						d := &system_proto.SyncDirection{GlobalRevision: 7, AppliedRevision: 7}
						if behind.Load() {
							d.AppliedRevision = 6
						}
						return &system_proto.ZoneSync{GlobalToZone: d}
					},
					Connections: func(context.Context, *view.Snapshot, string, drain.Target) *int64 { return nil },
					Proxies:     func(context.Context, *view.Snapshot, string) *kind.DrainProxies { return proxies.Load() },
				})
			}()
			return func() { cancel(); <-ended }
		}
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		state := func() string {
			o := v.Snapshot().Get(resource.ID{Type: kind.ZoneTraffic, Name: "east"})
			if o == nil {
				return "none"
			}
			spec := resource.SpecOf[kind.ZoneTrafficSpec](o)
			s := fmt.Sprintf("%d closed %d", spec.Share, spec.Closed)
			for _, d := range drain.Of(o) {
				s += fmt.Sprintf(" %s %v", d.Phase, d.Behind)
			}
			return s
		}
		want := func(what, want string) {
			t.Helper()
			if got := state(); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		wish := func(d *system_proto.ZoneDrain) {
			put(kind.Zone, "east", &system_proto.Zone{Drain: d})
		}
		online := &system_proto.ZoneInsight{Subscriptions: []*system_proto.KDSSubscription{{ConnectTime: timestamppb.Now()}}}
		put(kind.ZoneInsight, "east", online)
		d := &system_proto.ZoneDrain{Enabled: true, Ramp: durationpb.New(8 * time.Second), Timeout: durationpb.New(10 * time.Second)}

		stop := lead()
		wish(d)
		pass(time.Second)
		want("something would break", "100 closed 0 Refused []")
		looks.Store(0)
		pass(time.Hour)
		if n := looks.Load(); n > 1 {
			t.Errorf("%d looks while nothing changed", n)
		}
		reasons.Store(&[]string{})
		put(kind.Mesh, "m", &mesh_proto.Mesh{}) // whatever it is, it may have mended that
		pass(time.Second)
		want("mended", "75 closed 0 Draining []")
		stop()
		pass(time.Hour)
		want("nobody leads", "75 closed 0 Draining []")
		behind.Store(true)
		stop = lead()
		pass(time.Second)
		want("another leader", "50 closed 0 Draining []")
		pass(30 * time.Second)
		want("a zone does not obey", "0 closed 0 Waiting [east]")
		behind.Store(false)
		pass(2 * time.Second)
		want("it does", "0 closed 1 Drained []")
		before := revisions(t, st)
		pass(24 * time.Hour)
		if n := revisions(t, st) - before; n != 0 {
			t.Errorf("%d writes while it stays drained", n)
		}
		wish(nil)
		pass(20 * time.Second)
		want("back", "100 closed 1")
		put(kind.Zone, "east", nil)
		pass(time.Second)
		want("the zone is gone", "none")
		stop()
		cancel()
		<-followed
	})
}

func revisions(t *testing.T, st store.Store) uint64 {
	b, err := st.Read(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(b.Head)
}
