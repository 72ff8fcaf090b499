package cp

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/control"
	"github.com/atoll-mesh/atoll/pkg/dpserver"
	"github.com/atoll-mesh/atoll/pkg/liveness"
	"github.com/atoll-mesh/atoll/pkg/observe"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// runFunc starts a part of the control plane and names it in errors.
type runFunc func(name string, f func(context.Context) error)

// runZone starts what a zone consists of: the compiler and the server for its
// proxies, REST, the leader's jobs, and the sync with its global if it has one.
func (p *plane) runZone(run runFunc) error {
	ranges, err := virtualRanges(p.cfg.IPAM)
	if err != nil {
		return err
	}
	engine := compile.New(compile.Config{
		View: p.view, Policies: p.policies, Log: p.log,
		Settings: p.compileInputs().Settings,
	})
	p.measureCompiler(engine)
	run("compiler", engine.Run)
	run("compiler check", func(ctx context.Context) error { return checkCompiler(ctx, engine) })

	dp, err := dpserver.New(p.dpConfig(engine))
	if err != nil {
		return fmt.Errorf("dpServer: %w", err)
	}
	run("server for proxies", dp.Run)

	ask := askingProxies(dp)
	peers, err := p.replicas(ask)
	if err != nil {
		return err
	}
	runReplicas(run, peers)
	ask = through(peers, ask)
	sync, zoneSync, err := p.zoneSync(answering(ask))
	if err != nil {
		return err
	}
	if err := p.serveAPI(run, zoneSync, ofZone(ask, p.site)); err != nil {
		return err
	}
	if err := p.serveAssignments(run); err != nil {
		return err
	}
	notices := p.notices()
	hooks, err := p.webhooks()
	if err != nil {
		return err
	}
	run("leader", func(ctx context.Context) error {
		return p.lead(ctx, func(ctx context.Context) error {
			return together(ctx, notices, hooks, func(ctx context.Context) error { return control.Run(ctx, p.controlConfig(ranges)) },
				func(ctx context.Context) error {
					return liveness.Run(ctx, liveness.Config{View: p.view, Store: p.store, Log: p.log})
				}, bury(peers, dp.EndOf), sync, p.history().Run, p.reseal)
		})
	})
	return nil
}

// ranges are where virtual addresses are taken from.
type ranges struct{ services, external, multiZone netip.Prefix }

func virtualRanges(c config.IPAM) (r ranges, err error) {
	for _, x := range []struct {
		setting, cidr string
		into          *netip.Prefix
	}{
		{"ipam.meshService.cidr", c.MeshService.CIDR, &r.services},
		{"ipam.meshExternalService.cidr", c.MeshExternalService.CIDR, &r.external},
		{"ipam.meshMultiZoneService.cidr", c.MeshMultiZoneService.CIDR, &r.multiZone},
	} {
		if *x.into, err = netip.ParsePrefix(x.cidr); err != nil {
			return r, fmt.Errorf("%s: %w", x.setting, err)
		}
	}
	return r, nil
}

func (p *plane) dpConfig(engine *compile.Engine) dpserver.Config {
	c, b := p.cfg.DPServer, p.cfg.BootstrapServer.Params
	cfg := dpserver.Config{
		Address: listenAddress("", c.Port), CertFile: c.CertFile, KeyFile: c.KeyFile,
		HeaderTime: c.ReadHeaderTimeout.Duration, StopTime: c.GracefulShutdownTimeout.Duration,
		Store: p.store, View: p.view, Kinds: p.kinds, Site: p.site, Log: p.log,
		InstanceID: p.instance, Version: observe.APIVersion,
		Attach:   func(info compile.ProxyInfo) dpserver.Attachment { return engine.Attach(info) },
		Compiled: engine.Revision,
		Shaping: func(s *view.Snapshot, info compile.ProxyInfo, t xds.Type, name, version string) ([]*resource.Object, bool) {
			return compile.Shaping(p.compileInputs(), s, info, t, name, version)
		},
		DeregistrationDelay: p.cfg.XDSServer.DataplaneDeregistrationDelay.Duration,
		Exclusive:           p.cfg.Store.Type != config.StorePostgres,
		Bootstrap: dpserver.BootstrapParams{
			AdminAddress: b.AdminAddress, AdminPort: uint32(b.AdminPort), AdminTCP: !b.EnvoyAdminUnixSocket,
			AdminAccessLogPath: b.AdminAccessLogPath, ReadinessPort: uint32(b.ReadinessPort),
			XDSHost: b.XDSHost, XDSPort: uint32(b.XDSPort), XDSConnectTimeout: fmt.Sprintf("%gs", b.XDSConnectTimeout.Seconds()),
			XDSMaxMessageBytes: uint32(b.XDSGRPCMaxReceiveMessageSize),
		},
	}
	if t, err := c.ServerTLS(); err == nil { // New reports a certificate that cannot be read
		cfg.MinTLS, cfg.Ciphers = t.MinVersion, t.CipherSuites
	}
	if c.Authn.DPProxy.Type != config.AuthNone {
		cfg.Authenticate = func(_ context.Context, token string, dp *resource.Object) error {
			return p.tokens.CheckDataplane(token, &dp.Meta, false)
		}
	}
	proofs := c.Authn.DPProxy.Type != config.AuthNone
	cfg.CheckIdentity = func(token string, dp *resource.Object) error { return p.checkIdentity(token, dp, proofs) }
	return cfg
}

// checkInterval is how often one proxy's configuration is compiled a second
// time, from nothing, and compared: the proof, in production, that what is
// compiled incrementally misses no dependency.
const checkInterval = time.Minute

func checkCompiler(ctx context.Context, e *compile.Engine) error {
	t := time.NewTicker(checkInterval) // time itself: a rare safety check
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if _, err := e.CheckOne(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// together runs all parts until one ends or ctx does, and then ends the others.
func together(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error)
	n := 0
	for _, part := range parts {
		if part == nil {
			continue
		}
		n++
		go func() { errs <- part(ctx) }()
	}
	var first error
	for i := range n {
		err := <-errs
		if i == 0 {
			first = err
			cancel()
		}
	}
	return first
}
