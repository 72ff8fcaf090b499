package cp

import (
	"fmt"
	"net/http"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/mads"
)

// serveAssignments tells Prometheus which proxies have metrics for it, unless
// that is switched off.
func (p *plane) serveAssignments(run runFunc) error {
	c := p.cfg.MonitoringAssignmentServer
	if !c.Enabled || c.Port == 0 {
		return nil
	}
	settings := mads.Config{
		Address: listenAddress("", c.Port), FetchTimeout: c.DefaultFetchTimeout.Duration,
		View: p.view, Allow: p.seesProxies(), Log: p.log,
	}
	if c.TLSEnabled {
		var err error
		if settings.TLS, err = c.ServerTLS(); err != nil {
			return fmt.Errorf("monitoringAssignmentServer: %w", err)
		}
	}
	s, err := mads.New(settings)
	if err != nil && c.Port == config.Default().MonitoringAssignmentServer.Port {
		// Nobody chose that port: several zones on one machine need not serve this.
		p.log.Warn("Prometheus cannot ask this control plane for proxies", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	run("monitoring assignments", s.Run)
	return nil
}

// seesProxies applies the rules of REST for reading Dataplanes.
func (p *plane) seesProxies() func(*http.Request) (func(string) bool, int, error) {
	c := p.cfg.APIServer.Authn
	authn := &auth.Authenticator{LocalhostIsAdmin: c.LocalhostIsAdmin}
	if c.Type == config.AuthTokens {
		authn.Tokens = p.tokens
	}
	access, dataplanes := p.access(), p.kinds.ByType(kind.Dataplane)
	return func(r *http.Request) (func(string) bool, int, error) {
		user, err := authn.Authenticate(r)
		if err != nil {
			return nil, http.StatusUnauthorized, err
		}
		if err := access.Resource(user, auth.Read, dataplanes); err != nil {
			status := http.StatusForbidden
			if user.Name == auth.Anonymous().Name {
				status = http.StatusUnauthorized
			}
			return nil, status, err
		}
		return func(mesh string) bool { return access.Object(user, auth.Read, auth.TargetIn(dataplanes, mesh)) == nil }, 0, nil
	}
}
