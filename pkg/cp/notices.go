package cp

import (
	"context"
	"fmt"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/notice"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/webhook"
)

// notices makes the job that tells what happened.
func (p *plane) notices() func(context.Context) error {
	cfg := notice.Config{View: p.view, Store: p.store, Log: p.log, Metrics: notice.NewMetrics(p.metrics)}
	if p.site.Global { // a zone knows only how it would fare itself
		return func(ctx context.Context) error {
			cfg := cfg
			cfg.Gaps = p.gaps(&failover.Lookout{}) // what it holds goes with the leadership
			return notice.Run(ctx, cfg)
		}
	}
	return func(ctx context.Context) error { return notice.Run(ctx, cfg) }
}

// gaps finds what would break now.
func (p *plane) gaps(l *failover.Lookout) func(*view.Snapshot, []resource.ID, bool) []notice.Condition {
	return func(s *view.Snapshot, changed []resource.ID, all bool) []notice.Condition {
		return opened(l.Check(p.foresight(s), changed, all))
	}
}

func opened(r *failover.Report) []notice.Condition {
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
