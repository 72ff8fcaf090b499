package dpserver

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Envoy leaves connections that carry no HTTP alone when their endpoint is taken
// away, so that an application would wait on them for as long as the zone at the
// other end is gone. The agents of this zone are therefore asked to end them when
// an entrance of another zone is withdrawn.

const (
	// hangUpPath is what agents are asked for.
	hangUpPath = "/connections/end"
	// atOnce is how many agents are asked at a time.
	atOnce = 64
)

// withdrawn are the entrances of other zones that this one sends nothing to, by
// mesh.
type withdrawn map[string]map[string]bool

// hangUps follows the links of this zone and has connections ended. It belongs to
// one goroutine but for join.
type hangUps struct {
	s    *Server
	done *view.Snapshot

	mu  sync.Mutex
	now withdrawn
}

func (h *hangUps) run(ctx context.Context) {
	sub := h.s.cfg.View.Subscribe()
	defer sub.Close()
	for {
		h.look(ctx)
		select {
		case <-sub.C():
		case <-ctx.Done():
			return
		}
	}
}

// look asks for what was withdrawn since the last look.
func (h *hangUps) look(ctx context.Context) {
	s := h.s.cfg.View.Snapshot()
	if !h.concerns(s) {
		return
	}
	h.mu.Lock()
	before := h.now
	h.now = withdrawnOf(s, h.s.cfg.Site)
	now, agents := h.now, map[string]map[resource.ID]*channel{}
	for mesh := range now {
		agents[mesh] = h.s.questions.of(mesh)
	}
	h.mu.Unlock()
	for mesh, addresses := range now {
		added := map[string]bool{}
		for a := range addresses {
			if !before[mesh][a] {
				added[a] = true
			}
		}
		if len(added) > 0 {
			h.s.hangUp(ctx, agents[mesh], added)
		}
	}
}

// concerns tells whether links may differ from those of the last look.
func (h *hangUps) concerns(s *view.Snapshot) bool {
	prev := h.done
	h.done = s
	if prev == nil {
		return true
	}
	keys, ok := h.s.cfg.View.Touched(prev.Revision(), s)
	if !ok {
		return true
	}
	for _, k := range keys {
		if k.Table == view.Objects && k.Type == kind.ZoneLink {
			return true
		}
	}
	return false
}

// join adds the connection to an agent, false when the server has stopped, and
// returns what was withdrawn before. Of what is withdrawn later, look asks it.
func (h *hangUps) join(id resource.ID, c *channel) (gone map[string]bool, added bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now[id.Mesh], h.s.questions.add(id, c)
}

func withdrawnOf(s *view.Snapshot, site resource.Site) withdrawn {
	out := withdrawn{}
	for o := range s.List(kind.ZoneLink, "") {
		spec := resource.SpecOf[kind.ZoneLinkSpec](o)
		if spec.Observer != site.Zone || spec.Observed == site.Zone {
			continue
		}
		for _, a := range spec.Addresses {
			ip, err := netip.ParseAddr(a.Address)
			if !a.Withdrawn || err != nil {
				continue
			}
			if out[a.Mesh] == nil {
				out[a.Mesh] = map[string]bool{}
			}
			out[a.Mesh][netip.AddrPortFrom(ip, uint16(a.Port)).String()] = true
		}
	}
	return out
}

// hangUp asks agents to end connections to addresses, and returns at once.
func (s *Server) hangUp(ctx context.Context, agents map[resource.ID]*channel, to map[string]bool) {
	q := url.Values{}
	for a := range to {
		q.Add("to", a)
	}
	path := hangUpPath + "?" + q.Encode()
	turns := make(chan struct{}, atOnce)
	go func() {
		for id, c := range agents {
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				return
			}
			go func() {
				defer func() { <-turns }()
				ask, cancel := context.WithTimeout(ctx, answerTimeout)
				defer cancel()
				if _, err := c.call(ask, http.MethodPost, path); err != nil {
					s.log.Debug("connections to entrances that were withdrawn are not ended", "mesh", id.Mesh, "proxy", id.Name, "reason", err)
				}
			}()
		}
	}()
}

// of returns the connections to the agents of a mesh.
func (q *questions) of(mesh string) map[resource.ID]*channel {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := map[resource.ID]*channel{}
	for id, c := range q.open {
		if id.Mesh == mesh {
			out[id] = c
		}
	}
	return out
}
