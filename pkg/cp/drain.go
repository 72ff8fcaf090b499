package cp

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/drain"
	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kds"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/replica"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/rest"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// drains makes the job that takes zones out of the traffic and puts them back.
func (p *plane) drains(g *kds.Global, ask asker) func(context.Context) error {
	return func(ctx context.Context) error {
		return drain.Run(ctx, drain.Config{
			View: p.view, Store: p.store, Log: p.log, Sync: g.Status,
			Reasons: func(s *view.Snapshot, zone string, t drain.Target) ([]string, error) {
				gaps, err := failover.Breaks(p.foresight(s), failover.Drain{Zone: zone, Mesh: t.Mesh, Service: t.Service})
				var out []string
				for _, gap := range gaps {
					out = append(out, gap.String())
				}
				return out, err
			},
			Connections: func(ctx context.Context, s *view.Snapshot, zone string, t drain.Target) *int64 {
				return entering(ctx, ask, s, zone, t)
			},
			Proxies: func(ctx context.Context, s *view.Snapshot, zone string) *kind.DrainProxies {
				return followers(ctx, ask, s, zone)
			},
		})
	}
}

// foresight is what a look ahead is made of.
func (p *plane) foresight(s *view.Snapshot) failover.Inputs {
	return failover.Inputs{Kinds: p.kinds, Policies: p.policies, Site: p.site, Source: s, Now: time.Now()}
}

// askTime is how long a proxy may take to say how many connections it has.
const askTime = 2 * time.Second

// entering counts the connections from other zones that the zone proxies of a
// zone pass on; nil when one of them does not answer, or there are none.
func entering(ctx context.Context, ask asker, s *view.Snapshot, zone string, t drain.Target) *int64 {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		sum   int64
		asked int
		deaf  bool
	)
	for o := range s.List(kind.Dataplane, t.Mesh) {
		if o.Zone() != zone || !isIngress(o) {
			continue
		}
		asked++
		wg.Go(func() {
			b, err := ask(ctx, replica.Question{Ask: rest.AskStats, Zone: zone, Type: string(o.Type), Mesh: o.Mesh, Name: nameInZone(s, zone, o), UsedOnly: true})
			mu.Lock()
			defer mu.Unlock()
			deaf = deaf || err != nil
			sum += passing(string(b), t.Service)
		})
	}
	wg.Wait()
	if deaf || asked == 0 {
		return nil
	}
	return &sum
}

// followers counts the proxies of all zones, and those of them that may not have
// acknowledged what came of the ZoneTraffic of a zone; nil when no zone says so.
// Zones that are not connected are not asked, and those of another product, or
// older, do not answer.
func followers(ctx context.Context, ask asker, s *view.Snapshot, drained string) *kind.DrainProxies {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	question := kind.TrafficQuestion(drained, s.Get(resource.ID{Type: kind.ZoneTraffic, Name: drained}))
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		sum *kind.DrainProxies
	)
	for o := range s.List(kind.Zone, "") {
		insight := s.Get(resource.ID{Type: kind.ZoneInsight, Name: o.Name})
		if insight == nil || !kind.ZoneOnline(resource.SpecOf[system_proto.ZoneInsight](insight)) {
			continue
		}
		wg.Go(func() {
			b, err := ask(ctx, replica.Question{Ask: rest.AskStats, Zone: o.Name, Type: string(kind.ZoneTraffic), Name: question})
			var n kind.DrainProxies
			if err != nil || json.Unmarshal(b, &n) != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if sum == nil {
				sum = &kind.DrainProxies{}
			}
			sum.Connected += n.Connected
			sum.Behind += n.Behind
			if n.Behind > 0 {
				sum.Zones = append(sum.Zones, o.Name)
			}
		})
	}
	wg.Wait()
	if sum != nil {
		slices.Sort(sum.Zones)
	}
	return sum
}

// sumFollowing adds up what the replicas of a zone say of the proxies that are
// connected to them.
func sumFollowing(parts [][]byte) ([]byte, error) {
	var sum kind.DrainProxies
	for _, b := range parts {
		var n kind.DrainProxies
		if err := json.Unmarshal(b, &n); err != nil {
			return nil, err
		}
		sum.Connected += n.Connected
		sum.Behind += n.Behind
	}
	return json.Marshal(sum)
}

func isIngress(o *resource.Object) bool {
	for _, l := range kind.NetworkingOf(o).GetListeners() {
		if l.GetType() == mesh_proto.Dataplane_Networking_Listener_ZoneIngress {
			return true
		}
	}
	return false
}

// passing reads, from the statistics of a zone proxy, the connections to
// destinations of the mesh: of one service, or all.
func passing(stats, service string) int64 {
	var sum int64
	for line := range strings.Lines(stats) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		kri, ours := strings.CutPrefix(name, "cluster.kri_")
		kri, active := strings.CutSuffix(kri, ".upstream_cx_active")
		if !ok || !ours || !active {
			continue
		}
		// Name and port come last; what is before them may be called like the service.
		if parts := strings.Split(kri, "_"); service != "" && (len(parts) < 2 || parts[len(parts)-2] != service) {
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			sum += n
		}
	}
	return sum
}
