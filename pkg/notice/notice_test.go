package notice_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/notice"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// plane is a control plane that does nothing but notice, in virtual time.
type plane struct {
	t     *testing.T
	kinds *resource.Kinds
	store store.Store
	view  *view.View
	gaps  atomic.Pointer[[]notice.Condition]
	looks atomic.Int64
	told  atomic.Pointer[[]resource.ID] // to the last look, as changed; not when that was all
	reg   *prometheus.Registry
	m     *notice.Metrics
	stop  func()
	read  string // the newest notice that the test saw
}

func inBubble(t *testing.T, site resource.Site, test func(t *testing.T, p *plane)) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{t: t, kinds: resource.NewKinds(kind.All()...), store: memory.Open(), reg: prometheus.NewRegistry()}
		p.m = notice.NewMetrics(p.reg)
		p.gaps.Store(&[]notice.Condition{})
		p.view = view.New(p.kinds, site, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = view.Follow(ctx, p.store, p.view) }()
		test(t, p)
		if p.stop != nil {
			p.stop()
		}
		cancel()
		<-done
	})
}

func (p *plane) lead() {
	ctx, cancel := context.WithCancel(p.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- notice.Run(ctx, notice.Config{
			View: p.view, Store: p.store, Log: slog.New(slog.DiscardHandler), Metrics: p.m,
			Gaps: func(s *view.Snapshot, changed []resource.ID, all bool) []notice.Condition {
				if p.looks.Add(1); !all {
					p.told.Store(&changed)
				}
				return *p.gaps.Load()
			},
		})
	}()
	p.stop = func() {
		p.stop = nil
		cancel()
		<-ended
	}
}

func (p *plane) put(t resource.Type, mesh, name string, spec, status any) {
	p.t.Helper()
	id := resource.ID{Type: t, Mesh: mesh, Name: name}
	rev, err := view.Edit(p.t.Context(), p.view, p.store, id, "test", func(*resource.Object) (*resource.Object, error) {
		if spec == nil {
			return nil, nil
		}
		return p.kinds.ByType(t).New(resource.Meta{ID: id, Labels: map[string]string{}}, spec, status)
	})
	if err == nil {
		_, err = p.view.Wait(p.t.Context(), rev)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// want lets things settle, and compares what was noticed since it was called last.
func (p *plane) want(what string, events ...string) {
	p.t.Helper()
	p.pass(time.Second)
	var got []string
	for o := range p.view.Snapshot().List(kind.Notice, "") {
		if o.Name <= p.read {
			continue
		}
		p.read = o.Name
		n := resource.SpecOf[kind.NoticeSpec](o)
		got = append(got, n.Event+" "+n.Key)
		if n.Zone != o.Labels[resource.LabelZone] || n.Mesh != o.Labels[resource.LabelMesh] || n.Message == "" || n.Time.IsZero() {
			p.t.Errorf("%s: %+v with labels %v", what, n, o.Labels)
		}
	}
	if !slices.Equal(got, events) {
		p.t.Errorf("%s:\ngot  %q\nwant %q", what, got, events)
	}
}

func (p *plane) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (p *plane) link(observer, observed string, withdrawn bool) {
	p.put(kind.ZoneLink, "", kind.ZoneLinkName(observer, observed), &kind.ZoneLinkSpec{Observer: observer, Observed: observed, State: kind.LinkDown, Withdrawn: withdrawn}, nil)
}

func (p *plane) zone(name string, online bool) {
	sub := &system_proto.KDSSubscription{Id: "1", ConnectTime: timestamppb.Now()}
	if !online {
		sub.DisconnectTime = timestamppb.Now()
	}
	p.put(kind.ZoneInsight, "", name, &system_proto.ZoneInsight{Subscriptions: []*system_proto.KDSSubscription{sub}}, nil)
}

func TestZones(t *testing.T) {
	inBubble(t, resource.Site{Global: true}, func(t *testing.T, p *plane) {
		p.lead()
		for _, z := range []string{"east", "west", "north"} {
			p.zone(z, true)
		}
		p.link("west", "east", false)
		p.want("all is well")
		p.link("west", "east", true)
		p.want("one sees it", "ZoneWithdrawn withdrawn/west/east")
		p.zone("east", false)
		p.want("and its control plane is away", "ZoneLost lost/east")
		p.link("north", "east", true)
		p.want("another one sees it too", "ZoneWithdrawn withdrawn/north/east")
		p.stop()
		p.zone("east", true) // while nobody leads
		p.lead()
		p.want("two see it")
		p.link("west", "east", false)
		p.want("one reaches it again", "ZoneBack lost/east", "ZoneBack withdrawn/west/east")
		p.put(kind.ZoneLink, "", kind.ZoneLinkName("north", "east"), nil, nil)
		p.want("who saw it is gone", "ZoneBack withdrawn/north/east")
		p.link("east", "east", true)
		p.want("it says so itself", "ZoneWithdrawn withdrawn/east/east")
	})
}

func TestDrains(t *testing.T) {
	inBubble(t, resource.Site{Global: true}, func(t *testing.T, p *plane) {
		p.lead()
		drain := func(list ...kind.DrainStatus) {
			p.put(kind.ZoneTraffic, "", "east", &kind.ZoneTrafficSpec{Share: 1}, &kind.ZoneTrafficStatus{Drains: list})
		}
		drain(kind.DrainStatus{Phase: kind.DrainRefused, Reasons: []string{"why"}})
		p.want("refused", "DrainRefused drain/east")
		drain(kind.DrainStatus{Phase: kind.DrainRamping, Share: 75})
		p.want("begun", "ZoneDraining drain/east")
		drain(kind.DrainStatus{Phase: kind.DrainRamping, Share: 50})
		drain(kind.DrainStatus{Phase: kind.DrainWaiting})
		p.want("the same")
		drain(kind.DrainStatus{Phase: kind.Drained}, kind.DrainStatus{Mesh: "m", Service: "s", Phase: kind.DrainRamping})
		p.want("over, and a service", "ZoneDrained drain/east", "ZoneDraining drain/east/m//s")
		drain(kind.DrainStatus{Phase: kind.DrainReturning})
		p.want("back", "ZoneUndraining drain/east", "ZoneUndrained drain/east/m//s")
		p.put(kind.ZoneTraffic, "", "east", nil, nil)
		p.want("whole", "ZoneUndrained drain/east")
	})
}

func TestRejections(t *testing.T) {
	inBubble(t, resource.Site{Zone: "east"}, func(t *testing.T, p *plane) {
		p.lead()
		p.link("west", "north", true) // is for others to tell
		proxy := func(list ...kind.Rejection) {
			p.put(kind.DataplaneInsight, "m", "dp", &mesh_proto.DataplaneInsight{
				Metadata:      kind.WithRejections(nil, list),
				Subscriptions: []*mesh_proto.DiscoverySubscription{{ConnectTime: timestamppb.Now()}},
			}, nil)
		}
		proxy()
		p.want("nothing")
		proxy(kind.Rejection{Type: "lds", Resource: "x", Error: "no"})
		p.want("refused", "ConfigRejected rejected/m/dp")
		proxy(kind.Rejection{Type: "lds", Resource: "y", Error: "no"}, kind.Rejection{Type: "cds", Resource: "y", Error: "no"})
		p.want("more of it")
		proxy()
		p.want("mended", "ConfigRecovered rejected/m/dp")

		// What another policy does is another event, while the first goes on.
		a := kind.Rejection{Type: "cds", Resource: "x", Error: "no", Policies: []string{"kri_mpp_m___a_"}}
		b := kind.Rejection{Type: "rds", Resource: "y", Error: "no", Policies: []string{"kri_mpp_m___b_"}}
		proxy(a)
		p.want("refused because of a", "ConfigRejected rejected/m/dp/kri_mpp_m___a_")
		proxy(a, b)
		p.want("because of b, too", "ConfigRejected rejected/m/dp/kri_mpp_m___b_")
		proxy(b)
		p.want("a is mended", "ConfigRecovered rejected/m/dp/kri_mpp_m___a_")
		proxy()
		p.want("b is mended", "ConfigRecovered rejected/m/dp/kri_mpp_m___b_")
		i := &system_proto.ZoneInsight{Sync: &system_proto.ZoneSync{GlobalToZone: &system_proto.SyncDirection{
			Kinds: map[string]*system_proto.SyncKind{"Mesh": {Rejected: []*system_proto.SyncRejection{{Name: "m", Reason: "no"}}}},
		}}}
		p.put(kind.ZoneInsight, "", "east", i, nil)
		p.want("a zone refuses", "ConfigRejected rejected/zone/east")
	})
}

func gap(key string) notice.Condition {
	return notice.Condition{Key: key, Event: kind.EventGapOpened, Mesh: "m", Message: "gap"}
}

func TestGaps(t *testing.T) {
	inBubble(t, resource.Site{Global: true}, func(t *testing.T, p *plane) {
		p.gaps.Store(&[]notice.Condition{gap("a"), gap("b")})
		p.lead()
		p.want("seen once")
		p.pass(10 * time.Second)
		p.want("seen twice", "GapOpened a", "GapOpened b")
		looks := p.looks.Load()
		p.pass(time.Hour)
		if n := p.looks.Load(); n != looks {
			t.Errorf("%d looks while nothing changed", n-looks)
		}
		insight := func(subs ...*system_proto.KDSSubscription) {
			p.put(kind.ZoneInsight, "", "east", &system_proto.ZoneInsight{Subscriptions: subs}, nil)
			p.pass(20 * time.Second)
		}
		up := &system_proto.KDSSubscription{Id: "1", ConnectTime: timestamppb.Now()}
		insight(up)
		looks = p.looks.Load()
		insight(&system_proto.KDSSubscription{Id: "1", ConnectTime: up.ConnectTime, Generation: 7})
		if n := p.looks.Load(); n != looks {
			t.Errorf("%d looks while a zone is connected as before", n-looks)
		}
		insight(&system_proto.KDSSubscription{Id: "1", ConnectTime: up.ConnectTime, DisconnectTime: timestamppb.Now()})
		if p.looks.Load() == looks {
			t.Error("no look though a zone is not connected any more")
		}
		if told := p.told.Load(); told == nil || !slices.Contains(*told, resource.ID{Type: kind.ZoneInsight, Name: "east"}) {
			t.Errorf("the look was told that %v changed", told)
		}
		looks = p.looks.Load()
		// A hundred changes a second for a minute.
		for range 60 * 100 {
			p.put(kind.Zone, "", "east", &system_proto.Zone{}, nil)
			p.put(kind.Zone, "", "east", nil, nil)
			<-time.After(10 * time.Millisecond)
		}
		p.pass(10 * time.Second)
		if n := p.looks.Load() - looks; n < 5 || n > 20 {
			t.Errorf("%d looks in a minute of churn", n)
		}
		p.gaps.Store(&[]notice.Condition{gap("b"), gap("flash")})
		p.put(kind.Zone, "", "east", &system_proto.Zone{}, nil)
		p.pass(4 * time.Second)
		p.gaps.Store(&[]notice.Condition{gap("b")})
		p.pass(20 * time.Second)
		p.want("one closes, one was there for a moment", "GapClosed a")
		p.stop()
		p.lead()
		p.pass(time.Minute)
		p.want("another leader knows what is open")
		p.gaps.Store(&[]notice.Condition{})
		p.put(kind.Zone, "", "east", nil, nil)
		p.pass(20 * time.Second)
		p.want("the last closes", "GapClosed b")
	})
}

// Old notices go, but none that lasts, and none that a webhook has yet to tell.
func TestForgetting(t *testing.T) {
	inBubble(t, resource.Site{Global: true}, func(t *testing.T, p *plane) {
		p.lead()
		p.link("west", "east", true)
		p.put(kind.Webhook, "", "behind", &kind.WebhookSpec{URL: "https://x"}, &kind.WebhookStatus{Cursor: kind.NoticeName(100)})
		var many []notice.Condition
		for i := range 700 {
			many = append(many, gap(fmt.Sprintf("gap-%03d", i)))
		}
		turn := func(list []notice.Condition) {
			p.gaps.Store(&list)
			p.put(kind.Zone, "", "north", &system_proto.Zone{}, nil)
			p.pass(20 * time.Second)
			p.put(kind.Zone, "", "north", nil, nil)
			p.pass(20 * time.Second)
		}
		for range 2 {
			turn(many)
			turn(nil)
		}
		s := p.view.Snapshot()
		first := s.Get(resource.ID{Type: kind.Notice, Name: kind.NoticeName(1)})
		if first == nil || s.Get(resource.ID{Type: kind.Notice, Name: kind.NoticeName(101)}) == nil || s.Get(resource.ID{Type: kind.Notice, Name: kind.NoticeName(50)}) != nil {
			t.Errorf("of %d notices the first, which lasts, is there: %v", s.Count(kind.Notice, ""), first != nil)
		}
		p.put(kind.Webhook, "", "behind", nil, nil)
		for range 10 {
			p.link("west", "north", true)
			p.link("west", "north", false)
			p.pass(time.Second)
		}
		s = p.view.Snapshot()
		if n := s.Count(kind.Notice, ""); n > 1010 || n < 1000 {
			t.Errorf("%d notices are kept", n)
		}
		if s.Get(first.ID) == nil {
			t.Error("a notice that lasts is gone")
		}
	})
}
