package cp

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/control"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kds"
	"github.com/atoll-mesh/atoll/pkg/observe"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// runGlobal starts what a global consists of: the server for zones, REST and the
// leader's jobs.
func (p *plane) runGlobal(run runFunc) error {
	c := p.cfg.Multizone.Global.KDS
	gc := kds.GlobalConfig{
		View: p.view, Store: p.store, InstanceID: p.instance, Version: kdsVersion(),
		Admit:      func(zone string, o *resource.Object) error { return identity.MayVouch(p.view.Snapshot(), zone, o) },
		SkipLabels: c.Labels.SkipPrefixes, HealthInterval: c.ZoneHealthCheck.PollInterval.Duration,
		FlushInterval: c.ZoneInsightFlushInterval.Duration, MaxMessage: c.MaxMsgSize, Log: p.log,
	}
	if c.Auth.Type == config.AuthZoneToken {
		gc.Tokens = p.tokens
	} else {
		p.log.Warn("zones are not asked who they are; set multizone.global.kds.auth.type to zoneToken")
	}
	var global *kds.Global
	ask := askingZones(func() *kds.Global { return global })
	peers, err := p.replicas(ask)
	if err != nil {
		return err
	}
	if peers != nil {
		gc.Instances = peers.Others
	}
	global = kds.NewGlobal(gc)
	runReplicas(run, peers)
	options := global.ServerOptions()
	if c.TLSEnabled {
		tls, err := c.ServerTLS()
		if err != nil {
			return fmt.Errorf("multizone.global.kds: %w", err)
		}
		options = append(options, grpc.Creds(credentials.NewTLS(tls)))
	}
	server := grpc.NewServer(options...)
	global.Register(server)
	listener, err := net.Listen("tcp", listenAddress("", c.GRPCPort))
	if err != nil {
		return fmt.Errorf("server for zones (multizone.global.kds.grpcPort): %w", err)
	}
	run("server for zones", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, server.Stop)
		defer stop()
		return server.Serve(listener)
	})
	run("insights of zones", global.Run)
	if err := p.serveAPI(run, global.Status, ofGlobal(through(peers, ask), p.view)); err != nil {
		return err
	}
	notices := p.notices()
	hooks, err := p.webhooks()
	if err != nil {
		return err
	}
	run("leader", func(ctx context.Context) error {
		return p.lead(ctx, func(ctx context.Context) error {
			return together(ctx, func(ctx context.Context) error { return control.Run(ctx, p.controlConfig(ranges{})) }, p.drains(global, through(peers, ask)), bury(peers, global.EndOf), notices, hooks, p.history().Run, p.reseal)
		})
	})
	return nil
}

// zoneSync makes the connection to the global, for the leader to run; nil in a
// zone of its own.
func (p *plane) zoneSync(admin *kds.Admin) (run func(context.Context) error, status func(string) *systemv1.ZoneSync, err error) {
	if !p.site.Federated {
		return nil, nil, nil
	}
	c := p.cfg.Multizone.Zone
	zone, err := kds.NewZone(kds.ZoneConfig{
		View: p.view, Store: p.store, Name: c.Name, Address: c.GlobalAddress,
		RootCAFile: c.KDS.RootCAFile, SkipVerify: c.KDS.TLSSkipVerify,
		Token: func() (string, error) {
			if c.KDS.Auth.CPTokenPath == "" {
				return string(c.KDS.Auth.CPTokenInline), nil
			}
			b, err := os.ReadFile(c.KDS.Auth.CPTokenPath)
			return strings.TrimSpace(string(b)), err
		},
		Admin:      admin,
		InstanceID: p.instance, Version: kdsVersion(), Config: string(p.cfg.Masked()),
		SkipLabels: c.KDS.Labels.SkipPrefixes, AdoptGlobal: c.KDS.AdoptGlobal, MaxMessage: c.KDS.MaxMsgSize, Log: p.log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("multizone.zone: %w", err)
	}
	return zone.Run, zone.Status, nil
}

// adopt lets a zone follow another global; nil where there is none to follow.
func (p *plane) adopt() func(context.Context) error {
	if !p.site.Federated {
		return nil
	}
	return func(ctx context.Context) error { return kds.Adopt(ctx, p.view, p.store) }
}

func kdsVersion() kds.Version {
	b := observe.ReadBuild()
	return kds.Version{Product: "Atoll", Version: observe.APIVersion, GitTag: b.Version, GitCommit: b.Commit, BuildDate: b.Date}
}
