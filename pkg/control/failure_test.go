package control_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/control"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// troubled is a store of which a test decides what writes of the jobs meet.
type troubled struct {
	store.Store
	before func(ops []store.Op) error
}

func (s *troubled) Write(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	if s.before != nil && ops[0].Author == store.ControlPlane {
		if err := s.before(ops); err != nil {
			return 0, err
		}
	}
	return s.Store.Write(ctx, ops...)
}

// TestOthersAreFaster has somebody change each service just before the jobs
// write it, so that every batch meets a conflict.
func TestOthersAreFaster(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		st := &troubled{Store: p.store}
		p.cfg.Store = st
		raced := map[resource.ID]bool{}
		st.before = func(ops []store.Op) error {
			for _, op := range ops {
				if op.Type == kind.MeshService && op.Expect > 0 && !raced[op.ID] {
					raced[op.ID] = true
					o, err := op.Record.Object(p.kinds)
					if err != nil {
						return err
					}
					labels := map[string]string{"touched": "yes", resource.LabelManagedBy: control.ManagedByServices}
					by, err := o.Kind.New(resource.Meta{ID: o.ID, Labels: labels}, o.Spec, o.Status)
					if err != nil {
						return err
					}
					if _, err := p.store.Write(t.Context(), store.Put(by, store.Any, "user")); err != nil {
						return err
					}
					break // one of the batch
				}
			}
			return nil
		}
		p.start()
		for i := range 5 {
			p.apply(kind.Dataplane, dataplane(fmt.Sprintf("dp-%d", i), fmt.Sprintf("svc-%d", i), http))
		}
		p.settle()
		if len(raced) == 0 {
			t.Fatal("nothing was raced for")
		}
		for i := range 5 {
			o := p.get(kind.MeshService, "default", fmt.Sprintf("svc-%d", i))
			if st := resource.StatusOf[kind.MeshServiceStatus](o); st.DataplaneProxies.Healthy != 1 || len(st.VIPs) != 1 || o.Labels[resource.LabelZone] != "east" {
				t.Errorf("%s: %s", o.ID, o.JSON())
			}
			if raced[o.ID] && o.Labels["touched"] != "yes" {
				t.Errorf("%s: what the other wrote was lost", o.ID)
			}
		}
	})
}

// TestOneConflictHoldsUpNobody has one resource that cannot be written for a
// while, with nothing in the view that would say why.
func TestOneConflictHoldsUpNobody(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		st := &troubled{Store: p.store}
		p.cfg.Store = st
		var stuck atomic.Bool
		stuck.Store(true)
		st.before = func(ops []store.Op) error {
			for _, op := range ops {
				if stuck.Load() && op.Type == kind.MeshService && op.Name == "svc-1" {
					return fmt.Errorf("%s: %w", op.ID, store.ErrConflict)
				}
			}
			return nil
		}
		for i := range 3 {
			p.apply(kind.Dataplane, dataplane(fmt.Sprintf("dp-%d", i), fmt.Sprintf("svc-%d", i), http))
		}
		p.start()
		p.want("meanwhile", len(p.vips()), 2)
		stuck.Store(false)
		p.settle()
		p.want("afterwards", len(p.vips()), 3)
	})
}

// TestStoreAway has the store refuse writes for a minute, some of which were
// committed all the same.
func TestStoreAway(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.wantEssentials()
		st := &troubled{Store: p.store}
		p.cfg.Store = st
		back := time.Now().Add(time.Minute)
		tries := 0
		st.before = func(ops []store.Op) error {
			if time.Now().After(back) {
				return nil
			}
			if tries++; tries == 3 {
				if _, err := p.store.Write(t.Context(), ops...); err != nil {
					return err
				}
			}
			return fmt.Errorf("write: %w", store.ErrUnavailable)
		}
		p.start()
		p.apply(kind.Dataplane, dataplane("a-1", "a", http))
		p.pass(2 * time.Minute)
		if o := p.get(kind.MeshService, "default", "a"); o == nil || resource.SpecOf[kind.MeshServiceSpec](o).State != kind.ServiceAvailable {
			t.Error("the service is not as it should be once the store is back")
		}
		if p.get(kind.GlobalSecret, "", "admin-user-token") == nil {
			t.Error("no admin token")
		}
		if tries > 40 {
			t.Errorf("%d tries in a minute", tries)
		}
	})
}

// TestRunLooksFirst starts the jobs on a view that has not read the store yet:
// they must not give out what the former leader gave out.
func TestRunLooksFirst(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.give("first", "241.0.0.0")
		late := view.New(p.kinds, p.site, p.cfg.Log)
		p.cfg.View = late
		var wrote atomic.Int64
		p.cfg.Store = &troubled{Store: p.store, before: func([]store.Op) error { wrote.Add(1); return nil }}
		p.start()
		p.pass(time.Minute)
		p.want("writes before the view is there", wrote.Load(), 0)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- view.Follow(ctx, p.store, late) }()
		synctest.Wait()
		p.apply(kind.MeshService, service("second"))
		p.settle()
		p.want("addresses", p.vips(), map[string]string{"first": "241.0.0.0", "second": "241.0.0.1"})
		p.stop()
		cancel()
		<-ended
	})
}

// TestViewReadAnew has the view lose sight of the store for longer than its log
// reaches back, so that what changed meanwhile is not known in detail.
func TestViewReadAnew(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		v := view.New(p.kinds, p.site, p.cfg.Log)
		writer := p.cfg.View // goes on
		p.cfg.View = v
		follow := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- view.Follow(ctx, p.store, v) }()
			return func() { cancel(); <-ended }
		}
		unseen := func(act func()) {
			p.cfg.View = writer
			act()
			p.cfg.View = v
		}
		stop := follow()
		unseen(func() {
			p.apply(kind.Mesh, mesh, `{"name": "other"}`)
			p.apply(kind.Dataplane, dataplane("a-1", "a", http), dataplane("b-1", "b", http))
			p.receive("MeshTimeout", `{"mesh": "other", "name": "x"}`)
			p.connect("default", "b-1", true)
		})
		p.start()
		stop()
		unseen(func() {
			p.delete(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "a-1"})
			p.delete(resource.ID{Type: kind.Mesh, Name: "other"})
			p.connect("default", "b-1", false)
			p.apply(kind.Dataplane, dataplane("c-1", "c", http))
			if err := p.store.Compact(t.Context(), writer.Snapshot().Revision()); err != nil {
				t.Fatal(err)
			}
		})
		stop = follow()
		p.settle()
		p.want("everything", p.all(kind.Config, kind.GlobalSecret, kind.Secret), []string{
			"Dataplane default/b-1", "Dataplane default/c-1", "DataplaneInsight default/b-1", "Mesh default",
			"MeshService default/a", "MeshService default/b", "MeshService default/c", "Workload default/b", "Workload default/c", "Zone east",
		})
		if p.get(kind.MeshService, "default", "a").Labels[resource.LabelGraceStarted] == "" {
			t.Error("the service without Dataplanes has no mark")
		}
		p.want("status", statusOf(p.get(kind.MeshService, "default", "b")), `{"vips":[{"ip":"241.0.0.1"}],"tls":{"status":"NotReady"},"dataplaneProxies":{"healthy":1,"total":1}}`)
		p.stop()
		stop()
	})
}

func TestRunEnds(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		lost := &troubled{Store: p.store, before: func([]store.Op) error { return fmt.Errorf("write: %w", store.ErrNotLeader) }}
		p.cfg.Store = lost
		if err := control.Run(t.Context(), p.cfg); err == nil {
			t.Error("Run goes on without the lease")
		}
	})
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		closed := memory.Open()
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
		p.cfg.Store = closed
		if err := control.Run(t.Context(), p.cfg); err == nil {
			t.Error("Run goes on without a store")
		}
	})
}
