package cp

import (
	"context"
	"fmt"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/notice"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/webhook"
)

// notices makes the job that tells what happened.
func (p *plane) notices() func(context.Context) error {
	cfg := notice.Config{View: p.view, Store: p.store, Log: p.log, Metrics: notice.NewMetrics(p.metrics)}
	if p.site.Global { // a zone knows only how it would fare itself
		cfg.Gaps = p.gaps
	}
	return func(ctx context.Context) error { return notice.Run(ctx, cfg) }
}

// gaps are what would break now.
func (p *plane) gaps(s *view.Snapshot) []notice.Condition {
	r, err := failover.Check(p.foresight(s), failover.Query{})
	if err != nil { // only of zones that are asked about by name
		p.log.Error("gaps could not be looked for", "error", err)
		return nil
	}
	var out []notice.Condition
	for _, g := range r.Gaps {
		out = append(out, notice.Condition{
			Key:   strings.Join([]string{"gap", g.Code, g.Mesh, g.Service, g.Zone, g.Resource}, "/"),
			Event: kind.EventGapOpened, Mesh: g.Mesh, Zone: g.Zone, Service: g.Service, Message: g.String(),
			Details: map[string]string{"code": g.Code, "severity": g.Severity, "resource": g.Resource, "clients": strings.Join(g.Clients, ","), "docs": g.Docs},
		})
	}
	return out
}

// webhooks makes the job that tells others of notices.
func (p *plane) webhooks() (func(context.Context) error, error) {
	allow, err := p.cfg.Webhooks.Prefixes()
	if err != nil {
		return nil, fmt.Errorf("webhooks.allowedAddresses: %w", err)
	}
	cfg := webhook.Config{View: p.view, Store: p.store, Log: p.log, Allow: allow, Metrics: webhook.NewMetrics(p.metrics)}
	return func(ctx context.Context) error { return webhook.Run(ctx, cfg) }, nil
}
