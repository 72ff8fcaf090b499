// Package replica lets the replicas of one control plane, which share a store,
// know of each other: who is there, who has died, and who can answer a question
// that only one of them can.
//
// Each holds a lease under its own name for as long as it lives, and states in a
// Config where it is reached. Who gets somebody else's lease knows that the other
// is gone. They call each other with mutual TLS under an authority that is kept in
// the store, so that whoever can read the store is a replica, and nobody else.
package replica

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// prefix of the names of Configs, and of leases.
const prefix = "atoll-instance-"

// ttl is how long a replica that died counts as alive.
const ttl = 5 * time.Second

// ErrElsewhere says that a question is for another replica.
var ErrElsewhere = errors.New("this is known to another replica of the control plane")

// Config makes a Replica.
type Config struct {
	View  *view.View
	Store store.Store
	Log   *slog.Logger
	// ID names this run of the control plane, and no other.
	ID string
	// Listener is where others ask. Address is how they reach it: host and port.
	Listener net.Listener
	Address  string
	// Answer answers what this replica can answer by itself. The error is
	// ErrElsewhere for what another one may know.
	Answer func(context.Context, Question) ([]byte, error)
}

// Question is about one proxy, of a zone when a global is asked.
type Question struct {
	Ask        string // what the two sides agree on
	Zone       string `json:",omitempty"`
	Type       string
	Mesh, Name string
	IncludeEDS bool `json:",omitempty"`
	UsedOnly   bool `json:",omitempty"`
	JSON       bool `json:",omitempty"`
}

// Replica is this process among its peers.
type Replica struct {
	cfg    Config
	secret chan *authority // cap 1: the authority, once it is known
}

// New makes a Replica, which others know of once it runs.
func New(cfg Config) *Replica {
	return &Replica{cfg: cfg, secret: make(chan *authority, 1)}
}

// entry is what a Config says of a replica.
type entry struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

func entryID(instance string) resource.ID {
	return resource.ID{Type: kind.Config, Name: prefix + instance}
}

// others lists the replicas that the store knows of but this one.
func (r *Replica) others() []entry {
	var list []entry
	for o := range r.cfg.View.Snapshot().List(kind.Config, "") {
		if !strings.HasPrefix(o.Name, prefix) {
			continue
		}
		var e entry
		if json.Unmarshal([]byte(resource.SpecOf[systemv1.Config](o).GetConfig()), &e) == nil && e.ID != "" && e.ID != r.cfg.ID {
			list = append(list, e)
		}
	}
	return list
}

// Others returns the ids of the other replicas, as far as it is not known that
// they are gone.
func (r *Replica) Others() []string {
	var ids []string
	for _, e := range r.others() {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	return ids
}

// Run makes this replica known, and answers others until ctx ends.
func (r *Replica) Run(ctx context.Context) error {
	a, err := r.authority(ctx)
	for err != nil {
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return ignoreEnd(ctx, err)
		}
		r.cfg.Log.Warn("other replicas cannot be called, nor call this one; trying again", "error", err, "retryIn", ttl)
		pause(ctx)
		a, err = r.authority(ctx)
	}
	r.secret <- a
	both, end := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		served <- r.serve(both, a)
		end()
	}()
	err = r.live(both)
	end()
	if serveErr := <-served; serveErr != nil {
		err = serveErr
	}
	return ignoreEnd(ctx, err)
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// live holds the lease and keeps the entry, again after each time that the store
// was away for so long that others had to think that this replica is gone.
func (r *Replica) live(ctx context.Context) error {
	for {
		lease, err := r.cfg.Store.Lease(ctx, prefix+r.cfg.ID, r.cfg.ID, ttl)
		if err != nil {
			return err
		}
		err = r.enter(ctx)
		if err == nil {
			select {
			case <-lease.Lost():
				continue
			case <-ctx.Done():
			}
		}
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl)
		if ctx.Err() != nil {
			r.forget(bye, r.cfg.ID)
		}
		_ = lease.Release(bye) // else it runs out
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.cfg.Log.Warn("other replicas cannot be told of this one; trying again", "error", err, "retryIn", ttl)
		if pause(ctx); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// pause waits before another try: the store is away, and nothing tells when it
// is back.
func pause(ctx context.Context) {
	select {
	case <-time.After(ttl):
	case <-ctx.Done():
	}
}

// enter writes where this replica is reached.
func (r *Replica) enter(ctx context.Context) error {
	text, err := json.Marshal(entry{r.cfg.ID, r.cfg.Address})
	if err != nil {
		return err
	}
	return r.put(ctx, entryID(r.cfg.ID), &systemv1.Config{Config: string(text)})
}

func (r *Replica) put(ctx context.Context, id resource.ID, spec any) error {
	k := r.cfg.View.Kinds().ByType(id.Type)
	_, err := view.Edit(ctx, r.cfg.View, r.cfg.Store, id, store.ControlPlane, func(*resource.Object) (*resource.Object, error) {
		return k.New(resource.Meta{ID: id, Labels: r.cfg.View.Site().ComputeLabels(k, id.Name, "", nil)}, spec, nil)
	})
	return err
}

// catchUp waits until the view has what was written before now.
func (r *Replica) catchUp(ctx context.Context) error {
	b, err := r.cfg.Store.Read(ctx, r.cfg.View.Snapshot().Revision(), 1)
	if err == nil {
		_, err = r.cfg.View.Wait(ctx, b.Head)
	}
	return err
}

// forget deletes an entry, for this replica's own view too.
func (r *Replica) forget(ctx context.Context, instance string) {
	rev, err := view.Edit(ctx, r.cfg.View, r.cfg.Store, entryID(instance), store.ControlPlane, func(*resource.Object) (*resource.Object, error) { return nil, nil })
	if err == nil {
		_, err = r.cfg.View.Wait(ctx, rev)
	}
	if err != nil && ctx.Err() == nil {
		r.cfg.Log.Warn("a replica that is gone cannot be forgotten", "instance", instance, "error", err)
	}
}

// Bury waits for other replicas to die, until ctx ends, and has gone called for
// each: it ends what the dead one can no longer end itself. One replica at a time
// does this, the leader.
func (r *Replica) Bury(ctx context.Context, gone func(ctx context.Context, instance string) error) error {
	sub := r.cfg.View.Subscribe()
	defer sub.Close()
	waiting := map[string]bool{}
	dead := make(chan string)
	for {
		for _, id := range r.Others() {
			if !waiting[id] {
				waiting[id] = true
				go func() {
					r.outlive(ctx, id, gone)
					select {
					case dead <- id:
					case <-ctx.Done():
					}
				}()
			}
		}
		select {
		case id := <-dead:
			delete(waiting, id)
		case <-sub.C():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// outlive waits for the lease of another replica.
func (r *Replica) outlive(ctx context.Context, instance string, gone func(context.Context, string) error) {
	lease, err := r.cfg.Store.Lease(ctx, prefix+instance, r.cfg.ID, ttl)
	if err != nil {
		pause(ctx)
		return
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl)
		defer cancel()
		_ = lease.Release(end)
	}()
	if r.catchUp(ctx) != nil || r.cfg.View.Snapshot().Get(entryID(instance)) == nil {
		return // it said farewell by itself
	}
	r.cfg.Log.Warn("a replica is gone", "instance", instance)
	if err := gone(ctx, instance); err != nil {
		if ctx.Err() == nil {
			r.cfg.Log.Warn("what a replica that is gone left open cannot be ended; trying again", "instance", instance, "error", err, "retryIn", ttl)
			pause(ctx)
		}
		return // it is still known, and so tried again
	}
	r.forget(ctx, instance)
}
