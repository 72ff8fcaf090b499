package cp

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/rest"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
)

// api makes the server of REST. zoneSync tells how far a zone's sync is, proxies
// how they are reached.
func (p *plane) api(zoneSync func(zone string) *systemv1.ZoneSync, proxies func(*rest.Config)) (*rest.Server, error) {
	c := p.cfg.APIServer
	authn := &auth.Authenticator{LocalhostIsAdmin: c.Authn.LocalhostIsAdmin, ClientCertificates: c.HTTPS.CAFile != "", SkipTokens: func(r *http.Request) bool { return r.URL.Path == "/" }}
	var tokens *auth.Tokens
	if c.Authn.Type == config.AuthTokens {
		authn.Tokens = p.tokens
		tokens = p.tokens
	}
	settings := rest.Config{
		Adopt: p.adopt(),
		View:  p.view, Store: p.store, Kinds: p.kinds, Site: p.site,
		Auth: authn, Access: p.access(), Tokens: tokens,
		MeshDefaults: p.defaults.For, ZoneSync: zoneSync,
		ReadOnly: c.ReadOnly, UnsafeDelete: p.cfg.Store.UnsafeDelete,
		DisableOriginValidation: p.cfg.Multizone.Zone.DisableOriginLabelValidation,
		BasePath:                c.BasePath, RootURL: c.RootURL, CORSAllowedDomains: c.CORSAllowedDomains,
		MaxBodyBytes: c.MaxBodyBytes, MaxRequests: c.MaxConcurrentRequests, Audit: p.audit,
		Hostname: p.hostname, InstanceID: p.instance, Settings: p.cfg.Masked(),
		Compile: p.compileInputs(),
		Log:     p.log, Metrics: p.metrics,
	}
	proxies(&settings)
	s := &rest.Server{
		Handler: rest.New(settings), Log: p.log,
		Timeouts: rest.Timeouts{
			ReadHeader: c.ReadHeaderTimeout.Duration, Read: c.ReadTimeout.Duration,
			Write: c.WriteTimeout.Duration, Idle: c.IdleTimeout.Duration,
		},
	}
	if c.HTTP.Enabled {
		s.HTTP = listenAddress(c.HTTP.Interface, c.HTTP.Port)
	}
	if c.HTTPS.Enabled {
		s.HTTPS = listenAddress(c.HTTPS.Interface, c.HTTPS.Port)
		var err error
		if s.TLS, err = c.HTTPS.ServerTLS(); err != nil {
			return nil, fmt.Errorf("apiServer.https: %w", err)
		}
	}
	return s, nil
}

// serveAPI opens the sockets of REST and serves them.
func (p *plane) serveAPI(run runFunc, zoneSync func(zone string) *systemv1.ZoneSync, proxies func(*rest.Config)) error {
	s, err := p.api(zoneSync, proxies)
	if err != nil {
		return err
	}
	listeners, err := s.Listen()
	if err != nil {
		return fmt.Errorf("%w; choose other ports with apiServer.http.port and apiServer.https.port", err)
	}
	p.log.Info("serving the API", "http", s.HTTP, "https", s.HTTPS)
	run("REST", func(ctx context.Context) error { return s.Serve(ctx, listeners) })
	return nil
}

func (p *plane) access() *auth.Access {
	s := p.cfg.Access.Static
	rule := func(g config.Grant) auth.Rule { return auth.Rule{Users: g.Users, Groups: g.Groups} }
	var roles []auth.Binding
	for _, b := range p.cfg.Access.Roles {
		roles = append(roles, auth.Binding{
			Role: auth.Role(b.Role), Rule: auth.Rule{Users: b.Users, Groups: b.Groups}, Meshes: b.Meshes, Zones: b.Zones,
		})
	}
	return &auth.Access{
		Roles:                roles,
		AdminResources:       rule(s.AdminResources),
		GenerateDPToken:      rule(s.GenerateDPToken),
		GenerateUserToken:    rule(s.GenerateUserToken),
		GenerateZoneToken:    rule(s.GenerateZoneToken),
		ViewConfigDump:       rule(s.ViewConfigDump),
		ViewStats:            rule(s.ViewStats),
		ViewClusters:         rule(s.ViewClusters),
		ControlPlaneMetadata: rule(s.ControlPlaneMetadata),
		AnonymousRead:        p.cfg.Access.Anonymous != config.AnonymousNone,
		AnonymousWrite:       p.cfg.Access.Anonymous == config.AnonymousWrite,
	}
}

// tokenConfig says with which keys tokens are made and checked. The view that it
// reads need not have been loaded yet.
func (p *plane) tokenConfig() (auth.Config, error) {
	c := auth.Config{Snapshot: func() auth.Reader { return p.view.Snapshot() }}
	api, dp := p.cfg.APIServer.Authn.Tokens, p.cfg.DPServer.Authn
	var err error
	for _, t := range []struct {
		into   *auth.TokenConfig
		issue  bool
		config config.Validator
	}{
		{&c.User, api.EnableIssuer, api.Validator},
		{&c.Dataplane, dp.DPProxy.DPToken.EnableIssuer, dp.DPProxy.DPToken.Validator},
		{&c.Zone, dp.ZoneProxy.ZoneToken.EnableIssuer, dp.ZoneProxy.ZoneToken.Validator},
	} {
		t.into.DisableIssuer, t.into.IgnoreSecrets = !t.issue, !t.config.UseSecrets
		if t.into.PublicKeys, err = staticKeys(t.config.PublicKeys); err != nil {
			return c, err
		}
	}
	return c, nil
}

func staticKeys(keys []config.PublicKey) ([]auth.StaticKey, error) {
	var out []auth.StaticKey
	for _, k := range keys {
		b := []byte(string(k.Key))
		if k.KeyFile != "" {
			var err error
			if b, err = os.ReadFile(k.KeyFile); err != nil {
				return nil, fmt.Errorf("public key %q: %w", k.KID, err)
			}
		}
		out = append(out, auth.StaticKey{KID: k.KID, Mesh: k.Mesh, Key: b})
	}
	return out, nil
}
