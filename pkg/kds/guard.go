package kds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// GlobalIdentity is the Config in which a zone remembers whose copies it has. It
// never leaves the zone.
const GlobalIdentity = "atoll-global-identity"

// remembered is the content of GlobalIdentity.
type remembered struct {
	ClusterID string `json:"clusterId"`
	// Revision is the last one of the global that was applied. A global that is
	// behind it lost what it once sent.
	Revision uint64 `json:"revision"`
}

// errHeld is no refusal yet: the global has not said who it is.
var errHeld = errors.New("deletion is held back until the global says its cluster id")

// guard decides whether a zone believes its global that something was deleted:
// only the global that it knows may, and only as long as that did not go back in
// time. The first global that a zone meets becomes the one it knows.
type guard struct {
	view  *view.View
	kinds *resource.Kinds
	adopt bool
	log   *slog.Logger
	wake  chan struct{} // a bit: the answer of mayDelete may be another

	mu      sync.Mutex
	known   *remembered // nil: none yet
	current string      // cluster id of the connected global; empty: not said yet
	head    uint64      // revision of the connected global; 0: not said
	refused error       // why deletions are not believed
	told    string      // what was logged last
}

func newGuard(v *view.View, adopt bool, log *slog.Logger) *guard {
	g := &guard{view: v, kinds: v.Kinds(), adopt: adopt, log: log, wake: make(chan struct{}, 1)}
	g.known = g.load()
	g.judge()
	return g
}

func (g *guard) id() resource.ID { return resource.ID{Type: kind.Config, Name: GlobalIdentity} }

func (g *guard) load() *remembered {
	o := g.view.Snapshot().Get(g.id())
	if o == nil {
		return nil
	}
	c, ok := o.Spec.(*systemv1.Config)
	var r remembered
	if !ok || json.Unmarshal([]byte(c.GetConfig()), &r) != nil || r.ClusterID == "" {
		return nil
	}
	return &r
}

// reload takes over what was changed in the store, such as by Adopt.
func (g *guard) reload() {
	known := g.load()
	g.mu.Lock()
	defer g.mu.Unlock()
	if known == nil && g.known != nil {
		g.known = nil
		g.judge()
	}
}

// met is called when the global's cluster id is learned; head is its revision if
// it said so.
func (g *guard) met(clusterID string, head uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if clusterID == "" || g.current == clusterID && head <= g.head {
		return
	}
	g.current, g.head = clusterID, max(g.head, head)
	g.judge()
}

// judge decides anew and wakes those who wait for the answer. mu is held.
func (g *guard) judge() {
	before := g.refused
	switch {
	case g.current == "":
		g.refused = errHeld
	case g.known == nil:
		g.refused = nil
		g.known = &remembered{ClusterID: g.current}
	case g.known.ClusterID != g.current && !g.adopt:
		g.refused = fmt.Errorf("deletion is refused: this zone belongs to the global with cluster id %s and is connected to %s; "+
			"if that is right, run \"atollctl zone adopt\" or set multizone.zone.kds.adoptGlobal", g.known.ClusterID, g.current)
	case g.known.ClusterID == g.current && g.head > 0 && g.head < g.known.Revision && !g.adopt:
		g.refused = fmt.Errorf("deletion is refused: the global is at revision %d but this zone has its revision %d, so it lost data; "+
			"if that is right, run \"atollctl zone adopt\" or set multizone.zone.kds.adoptGlobal", g.head, g.known.Revision)
	default:
		g.refused = nil
		if g.known.ClusterID != g.current || g.head > 0 && g.head < g.known.Revision {
			g.known = &remembered{ClusterID: g.current}
		}
	}
	if g.refused != nil && g.current != "" && g.told != g.refused.Error() {
		g.told = g.refused.Error()
		g.log.Warn("the global is not the one that this zone knows, or lost data", "reason", g.refused)
	}
	if before != nil && g.refused == nil {
		select {
		case g.wake <- struct{}{}:
		default:
		}
	}
}

// mayDelete returns nil if deletions are believed, or why not.
func (g *guard) mayDelete() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

// remember returns the op by which a write also records how much of the global
// is applied, if that is news.
func (g *guard) remember(rev uint64) []store.Op {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refused != nil || g.known == nil || g.known.ClusterID != g.current {
		return nil
	}
	g.known.Revision = max(g.known.Revision, rev)
	b, err := json.Marshal(g.known)
	if err != nil {
		return nil
	}
	k := g.kinds.ByType(kind.Config)
	if k == nil {
		return nil
	}
	o, err := k.New(resource.Meta{ID: g.id(), Labels: map[string]string{}}, &systemv1.Config{Config: string(b)}, nil)
	if err != nil {
		return nil
	}
	if old := g.view.Snapshot().Get(g.id()); old != nil && old.SameContent(o) {
		return nil
	}
	return []store.Op{store.Put(o, store.Any, store.ControlPlane)}
}

// Adopt makes a zone forget which global it belongs to: whichever it is
// connected to, now or next, may delete what it got from the earlier one.
func Adopt(ctx context.Context, v *view.View, st store.Store) error {
	id := resource.ID{Type: kind.Config, Name: GlobalIdentity}
	_, err := view.Edit(ctx, v, st, id, store.ControlPlane, func(*resource.Object) (*resource.Object, error) { return nil, nil })
	return err
}
