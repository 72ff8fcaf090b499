package cp

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/drain"
	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kds"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// drains makes the job that takes zones out of the traffic and puts them back.
func (p *plane) drains(g *kds.Global) func(context.Context) error {
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
				return entering(ctx, g, s, zone, t)
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
func entering(ctx context.Context, g *kds.Global, s *view.Snapshot, zone string, t drain.Target) *int64 {
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
			b, err := g.AskStats(ctx, zone, kds.AdminQuestion{Type: string(o.Type), Mesh: o.Mesh, Name: nameInZone(s, zone, o), UsedOnly: true})
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
		if !ok || !strings.HasPrefix(name, "cluster.kri_") || !strings.HasSuffix(name, ".upstream_cx_active") {
			continue
		}
		if service != "" && !strings.Contains(name, "_"+service+"_") {
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			sum += n
		}
	}
	return sum
}
