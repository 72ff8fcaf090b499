// Package cp puts a control plane together: every part is made here, in the
// order in which it is needed, and handed what it uses.
package cp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/control"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/observe"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/sealed"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// plane is one control plane: what its parts share.
type plane struct {
	cfg      *config.Config
	log      *slog.Logger
	kinds    *resource.Kinds
	policies []*policy.Def
	site     resource.Site
	hostname string
	instance string // unique to this run

	store    store.Store
	sealed   *sealed.Store // the same
	audit    *slog.Logger  // nil: none is kept
	view     *view.View
	tokens   *auth.Tokens
	defaults control.Defaults
	metrics  *prometheus.Registry
	health   *observe.Health
}

// Run is a control plane until ctx ends or a part fails for good. The settings
// must be complete, as config.Load and EnsureCertificate leave them.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	p, err := newPlane(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer p.store.Close()

	g, ctx := errgroup.WithContext(ctx)
	run := func(name string, f func(context.Context) error) {
		g.Go(func() error {
			if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	loaded := p.health.Require("store", "the store was not read yet")
	serving := p.health.Require("servers", "the servers do not listen yet")
	stopFollowing := p.follow(ctx, run)
	defer stopFollowing()
	diagnostics, err := p.diagnostics()
	if err != nil {
		return err
	}
	run("diagnostics", diagnostics.Run)
	select {
	case <-p.view.Loaded():
		loaded("")
	case <-ctx.Done():
		return g.Wait()
	}
	run("start", p.awaitEssentials(p.health.Require("resources", "what every control plane has was not created yet")))
	if cfg.Global() {
		err = p.runGlobal(run)
	} else {
		err = p.runZone(run)
	}
	if err != nil {
		return err
	}
	serving("")
	log.Info("the control plane runs", "mode", cfg.Mode, "zone", p.site.Zone, "instance", p.instance,
		"store", cfg.Store.Type, "workDir", cfg.General.WorkDir, "revision", p.view.Snapshot().Revision())
	return g.Wait()
}

// follow keeps the view in step with the store, until stop. That has to be after
// all else has ended: what is written last, by requests under way and about
// streams that end, is waited for in the view.
func (p *plane) follow(ctx context.Context, run runFunc) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = view.Follow(ctx, p.store, p.view)
	}()
	run("view", func(ctx context.Context) error {
		select {
		case <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return func() {
		cancel()
		<-ended
	}
}

func newPlane(ctx context.Context, cfg *config.Config, log *slog.Logger) (*plane, error) {
	p := &plane{cfg: cfg, log: log, policies: all.Policies(), metrics: observe.NewRegistry(), health: &observe.Health{}}
	kinds := kind.All()
	for _, d := range p.policies {
		kinds = append(kinds, d.Kind())
	}
	p.kinds = resource.NewKinds(kinds...)
	p.site = resource.Site{Global: cfg.Global(), Federated: cfg.Federated(), Env: cfg.Environment}
	if !p.site.Global {
		p.site.Zone = cfg.Multizone.Zone.Name
	}
	var err error
	if p.hostname, err = os.Hostname(); err != nil {
		return nil, err
	}
	suffix := make([]byte, 2)
	if _, err := rand.Read(suffix); err != nil {
		return nil, err
	}
	p.instance = p.hostname + "-" + hex.EncodeToString(suffix)

	st, err := openStore(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if p.audit, err = openAudit(cfg.Access.Audit.Path, log); err != nil {
		st.Close()
		return nil, err
	}
	if p.sealed, err = p.seal(ctx, st); err != nil {
		st.Close()
		return nil, err
	}
	p.store = p.sealed
	p.view = view.New(p.kinds, p.site, log)
	p.measureView()
	p.measureLinks()
	tokens, err := p.tokenConfig()
	if err == nil {
		tokens.Used = auditTokens(p.audit, cfg.Access.Audit.TokenUse.Duration)
		p.tokens, err = auth.NewTokens(tokens)
	}
	if err != nil {
		p.store.Close()
		return nil, err
	}
	p.defaults = control.Defaults{
		Kinds: p.kinds, Site: p.site, Key: auth.GenerateKey,
		Policies: all.Defaults,
	}
	return p, nil
}

// awaitEssentials reports readiness once the resources exist that the leader
// creates at the first start, so that whoever waits for it can go on at once.
func (p *plane) awaitEssentials(ready func(reason string)) func(context.Context) error {
	exist := func(s *view.Snapshot) bool {
		if p.site.Federated {
			return true // they come from the global, which may be away
		}
		mesh := resource.ID{Type: kind.Mesh, Name: control.DefaultMesh}
		return s.Get(resource.ID{Type: kind.Config, Name: kind.ClusterID}) != nil && (p.cfg.Defaults.SkipMeshCreation || s.Get(mesh) != nil)
	}
	return func(ctx context.Context) error {
		sub := p.view.Subscribe()
		defer sub.Close()
		for !exist(p.view.Snapshot()) {
			select {
			case <-sub.C():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		ready("")
		return nil
	}
}

func (p *plane) diagnostics() (*observe.Diagnostics, error) {
	c := p.cfg.Diagnostics
	d := &observe.Diagnostics{
		Address: listenAddress("", c.ServerPort),
		Health:  p.health, Metrics: p.metrics, Debug: c.DebugEndpoints, Log: p.log,
	}
	if c.TLSEnabled {
		var err error
		if d.TLS, err = c.ServerTLS(); err != nil {
			return nil, fmt.Errorf("diagnostics: %w", err)
		}
	}
	return d, nil
}

// controlConfig says which resources this control plane looks after.
func (p *plane) controlConfig(r ranges) control.Config {
	c := control.Config{
		View: p.view, Store: p.store, Log: p.log,
		Defaults:           p.defaults,
		DefaultMesh:        !p.site.Federated && !p.cfg.Defaults.SkipMeshCreation,
		UserTokenKey:       p.cfg.APIServer.Authn.Type == config.AuthTokens,
		HostnameGenerators: !p.cfg.Defaults.SkipHostnameGenerators,
		GenerateServices:   true,
		GenerateWorkloads:  true,
		GracePeriod:        p.cfg.MeshService.DeletionGracePeriod.Duration,
		ServiceCIDR:        r.services,
		CleanupAge:         p.cfg.Runtime.Universal.DataplaneCleanupAge.Duration,

		ExternalServiceCIDR: r.external, MultiZoneServiceCIDR: r.multiZone,
		CollectorRefs: collectorRefs(p.policies),
	}
	if p.cfg.APIServer.Authn.Tokens.BootstrapAdminToken && c.UserTokenKey {
		c.IssueAdminToken = func() (string, error) {
			admin := auth.Admin()
			return p.tokens.IssueUser(auth.UserClaims{Name: admin.Name, Groups: []string{auth.AdminGroup}}, auth.DefaultValidity)
		}
	}
	return c
}

// leaseTTL is how long a leader that vanished keeps others from leading.
const leaseTTL = 5 * time.Second

// lead runs f while this instance is the leader: again each time it becomes it.
func (p *plane) lead(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		lease, err := p.store.Lease(ctx, "atoll-cp", p.instance, leaseTTL)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, store.ErrClosed) {
				return err
			}
			p.log.Warn("cannot compete for leadership", "error", err)
			select {
			case <-time.After(time.Second): // the store is away; there is nothing else to wait for
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		p.log.Info("this instance leads", "instance", p.instance)
		work, stop := context.WithCancelCause(lease.Fence(ctx))
		lost := make(chan struct{})
		go func() {
			defer close(lost)
			select {
			case <-lease.Lost():
				stop(store.ErrNotLeader)
			case <-work.Done():
			}
		}()
		err = f(work)
		stop(nil)
		<-lost
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTTL)
		if rerr := lease.Release(release); rerr != nil && ctx.Err() == nil {
			p.log.Debug("the lease was not given back; it runs out by itself", "error", rerr)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(context.Cause(work), store.ErrNotLeader), errors.Is(err, store.ErrNotLeader):
			p.log.Warn("this instance leads no more")
		case err != nil:
			return err
		}
	}
}

func listenAddress(iface string, port int) string { return net.JoinHostPort(iface, fmt.Sprint(port)) }
