// Package control holds the writers of which a control plane has one at a time:
// those that generate services and workloads, give out virtual addresses, state
// what is observed, create what must exist and delete what must not.
//
// All jobs work in passes. A pass looks at what differs between the snapshot
// that the last pass finished with and the newest one, lets every job say what
// it wants written, and writes all of it together. Nothing polls: a pass follows
// a change of the view, or a deadline that a job asked for.
package control

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Config is what Run needs. Kinds and site are those of the view.
type Config struct {
	View  *view.View
	Store store.Store
	Log   *slog.Logger

	// Defaults makes what is created together with a Mesh.
	Defaults Defaults
	// DefaultMesh has a Mesh named "default" created where there is none. It is
	// not for zones that have a global.
	DefaultMesh bool
	// UserTokenKey has a key for user tokens created where there is none.
	UserTokenKey bool
	// IssueAdminToken makes the token of the first admin, signed with the newest
	// key of the view. Nil: there shall be none.
	IssueAdminToken func() (string, error)

	// HostnameGenerators has the default ones created at start where they are
	// missing.
	HostnameGenerators bool

	// GenerateServices and GenerateWorkloads have MeshServices and Workloads made
	// of the kuma.io/workload labels of Dataplanes. They act on universal zones.
	GenerateServices  bool
	GenerateWorkloads bool
	// GracePeriod is how long a generated MeshService outlives its last Dataplane.
	GracePeriod time.Duration
	// ServiceCIDR is where virtual addresses of MeshServices are taken from,
	// ExternalServiceCIDR those of MeshExternalServices, MultiZoneServiceCIDR those
	// of MeshMultiZoneServices.
	ServiceCIDR          netip.Prefix
	ExternalServiceCIDR  netip.Prefix
	MultiZoneServiceCIDR netip.Prefix
	// CollectorRefs reads, by type of policy, the references of a policy to
	// MeshOpenTelemetryBackends. Which of them lead somewhere is stated on both
	// sides, where proxies are: not in a global.
	CollectorRefs map[resource.Type]func(policy *resource.Object) []CollectorRef
	// CleanupAge is how long a Dataplane may be offline before it is deleted;
	// zero: for ever. It acts on universal zones.
	CleanupAge time.Duration
}

// Sustained churn, changes without a quiet time between them, is met with growing
// pauses between passes, so that a thousand proxies that register cost a handful
// of commits. The first change after a quiet time is never held back.
const (
	gapMin = 50 * time.Millisecond
	gapMax = 800 * time.Millisecond
	quiet  = 250 * time.Millisecond
)

// chainMax bounds how many passes may follow each other without a pause, if
// nobody else writes meanwhile.
const chainMax = 8

// retryMin and retryMax bound the pauses after a pass that could not be written.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
)

// job is one concern of the control plane. It reads the pass and enters what it
// wants written; it must want nothing when everything is as it should be. What it
// remembers must be made anew when the pass is full.
type job interface{ plan(p *pass) }

// controller runs the jobs. It belongs to one goroutine.
type controller struct {
	cfg  Config
	site resource.Site
	jobs []job
	done *view.Snapshot // handled completely; nil before the first pass

	wrote store.Revision // of the last pass that wrote
}

func newController(cfg Config) *controller {
	c := &controller{cfg: cfg, site: cfg.View.Site()}
	universal := !c.site.Global && c.site.Env == resource.EnvUniversal
	// The order matters where one job goes on with what another wants written.
	c.jobs = append(c.jobs, &essentials{cfg: cfg, site: c.site}, &orphans{kinds: cfg.View.Kinds(), site: c.site})
	if cfg.HostnameGenerators {
		c.jobs = append(c.jobs, &generators{defaults: cfg.Defaults})
	}
	if universal {
		members := &members{}
		c.jobs = append(c.jobs, members)
		if cfg.CleanupAge > 0 {
			c.jobs = append(c.jobs, &collector{age: cfg.CleanupAge, log: cfg.Log})
		}
		if cfg.GenerateServices {
			c.jobs = append(c.jobs, &services{members: members, site: c.site, grace: cfg.GracePeriod, log: cfg.Log})
		}
		if cfg.GenerateWorkloads {
			c.jobs = append(c.jobs, &workloads{members: members, site: c.site, log: cfg.Log})
		}
		c.jobs = append(c.jobs, &workloadStatus{members: members})
	}
	if !c.site.Global {
		c.jobs = append(c.jobs,
			&identities{site: c.site, log: cfg.Log},
			&addresses{addressed: meshServices, site: c.site, cidr: cfg.ServiceCIDR, log: cfg.Log},
			&addresses{addressed: multiZoneServices, site: c.site, cidr: cfg.MultiZoneServiceCIDR, log: cfg.Log},
			&addresses{addressed: externalServices, site: c.site, cidr: cfg.ExternalServiceCIDR, log: cfg.Log},
			&serviceStatus{site: c.site}, &multiZoneStatus{})
	}
	if !c.site.Global {
		c.jobs = append(c.jobs, &hostnames{site: c.site}, &telemetry{refs: cfg.CollectorRefs})
	}
	if c.site.Federated {
		c.jobs = append(c.jobs, &sharedTrust{site: c.site})
	}
	c.jobs = append(c.jobs, &rejections{site: c.site})
	return c
}

// Run does the work until ctx ends. The caller holds the leader's lease: ctx ends
// when that is lost, and carries its fence.
func Run(ctx context.Context, cfg Config) error {
	sub := cfg.View.Subscribe()
	defer sub.Close()
	if err := catchUp(ctx, cfg, sub); err != nil {
		return err
	}
	c := newController(cfg)
	gap, retry := time.Duration(0), retryMin
	chain, commits := 0, false // passes since the last pause, and whether one wrote or tried to
	for {
		deadline, wrote, err := c.pass(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrNotLeader), errors.Is(err, store.ErrClosed):
			return err
		case err != nil:
			level := slog.LevelWarn
			if errors.Is(err, store.ErrConflict) { // somebody else changed the same thing
				level = slog.LevelDebug
			}
			cfg.Log.Log(ctx, level, "what the control plane decided could not be written and is decided again", "error", err, "retryIn", retry)
			deadline = earliest(deadline, time.Now().Add(retry))
			retry, commits = min(2*retry, retryMax), true
		default:
			retry = retryMin
			// What follows from this pass alone is no churn: an identity, the trust in
			// it and the services that have it are steps of one change.
			commits = commits || wrote
			if chain++; wrote && c.alone() && chain < chainMax {
				select { // the wake of its own commit
				case <-sub.C():
				default:
				}
				continue
			}
		}
		if err := sleep(ctx, gap); err != nil {
			return err
		}
		asleep := time.Now()
		if err := sub.Wait(ctx, deadline); err != nil { // a grace period, an age, or a retry
			return err
		}
		switch {
		case time.Since(asleep) >= quiet:
			gap = 0
		case commits:
			gap = min(max(2*gap, gapMin), gapMax)
		default: // changes that nothing follows from
			gap /= 2
		}
		chain, commits = 0, false
	}
}

// catchUp waits until the view has everything that was committed before the
// lease was taken, so that no decision is made twice.
func catchUp(ctx context.Context, cfg Config, sub *view.Subscription) error {
	for {
		b, err := cfg.Store.Read(ctx, cfg.View.Snapshot().Revision(), 1)
		switch {
		case err == nil:
			_, err = cfg.View.Wait(ctx, b.Head)
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrClosed):
			return err
		}
		// The view is about to read the store anew, or the store is away, which the
		// view waits out. The time is for a store that comes back unchanged.
		if err := sub.Wait(ctx, time.Now().Add(retryMax)); err != nil {
			return err
		}
	}
}

// sleep keeps the gap between passes under churn.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alone tells whether nothing was written since the last pass but by itself.
func (c *controller) alone() bool { return c.cfg.View.Snapshot().Revision() == c.wrote }

// pass plans and writes once. It returns when a job wants to be asked again, and
// whether there was something to write.
func (c *controller) pass(ctx context.Context) (deadline time.Time, wrote bool, err error) {
	p := newPass(c.cfg.View, c.done)
	for _, j := range c.jobs {
		j.plan(p)
	}
	ops := p.ops()
	if len(ops) == 0 {
		c.done = p.now
		return p.deadline, false, nil
	}
	rev, err := write(ctx, c.cfg.Store, ops)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return p.deadline, false, err
	}
	// The next pass must see what this one wrote, or it would write it again.
	if _, waitErr := c.cfg.View.Wait(ctx, rev); waitErr != nil {
		return p.deadline, false, waitErr
	}
	if err == nil {
		c.done, c.wrote = p.now, rev
	}
	return p.deadline, true, err
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
