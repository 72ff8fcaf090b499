package dpserver

import (
	"sync"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// following finds out, for whoever asks, which proxies have acknowledged all that
// came of a ZoneTraffic.
type following struct {
	mu    sync.Mutex // guards zones
	zones map[string]*followed
}

// followed is one ZoneTraffic as it is now.
type followed struct {
	mark  string
	since store.Revision // it is so, or earlier
	// need is what a proxy must have acknowledged to have all of it; not there:
	// nothing is compiled for the proxy yet.
	need map[*session]uint64
}

// Following counts the proxies that are connected here, and those of them that
// may not have what came of the ZoneTraffic of a zone, when that has the mark.
// While another one is here, or it is not compiled yet, all are behind. It is
// meant to be asked until nobody is behind.
func (s *Server) Following(zone, mark string) kind.DrainProxies {
	list := s.proxies.sessions()
	out := kind.DrainProxies{Connected: len(list)}
	s.following.mu.Lock()
	defer s.following.mu.Unlock()
	snap := s.cfg.View.Snapshot()
	if kind.TrafficMark(snap.Get(resource.ID{Type: kind.ZoneTraffic, Name: zone})) != mark {
		delete(s.following.zones, zone)
		out.Behind = len(list)
		return out
	}
	f := s.following.zones[zone]
	if f == nil || f.mark != mark {
		f = &followed{mark: mark, since: snap.Revision()}
		if s.following.zones == nil {
			s.following.zones = map[string]*followed{}
		}
		s.following.zones[zone] = f
	}
	if s.compiled() < f.since {
		out.Behind = len(list)
		return out
	}
	need := make(map[*session]uint64, len(list)) // without those that are gone
	for _, x := range list {
		n, known := f.need[x]
		if set := x.Set(); !known && set != nil {
			n, known = set.Revision, true
		}
		if known {
			need[x] = n
		}
		if !known || x.snapshot().Report.Revision < n {
			out.Behind++
		}
	}
	f.need = need
	return out
}

// compiled is the revision up to which everything is compiled.
func (s *Server) compiled() store.Revision {
	if s.cfg.Compiled == nil {
		return s.cfg.View.Snapshot().Revision()
	}
	return s.cfg.Compiled()
}

// sessions are those of all proxies that are connected here.
func (ps *proxies) sessions() []*session {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []*session
	for _, st := range ps.seats {
		if st.current != nil {
			out = append(out, st.current)
		}
	}
	return out
}
