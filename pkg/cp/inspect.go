package cp

import (
	"context"
	"encoding/json"
	"strings"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/dpserver"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kds"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/replica"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/rest"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// compileInputs is what configuration is made of here.
func (p *plane) compileInputs() compile.Inputs {
	return compile.Inputs{
		Policies: p.policies, Site: p.site,
		Settings: compile.Settings{InternalCIDRs: p.cfg.IPAM.KnownInternalCIDRs},
	}
}

// ofZone has REST know the proxies of a zone, and ask them.
func ofZone(ask asker, site resource.Site) func(*rest.Config) {
	return func(c *rest.Config) {
		c.ProxyInfo = dpserver.InfoOf
		c.SpiffeID = func(s *view.Snapshot, o *resource.Object) string {
			i := identity.NewMesh(site, s, o.Mesh).Of(&o.Meta)
			if i == nil {
				return ""
			}
			id, err := i.SpiffeID(&o.Meta)
			if err != nil {
				return "" // the proxy has none; its warnings say why
			}
			return id
		}
		c.AskProxy = func(ctx context.Context, o *resource.Object, q rest.ProxyQuestion) ([]byte, error) {
			return ask(ctx, replica.Question{
				Ask: q.Ask, Type: string(o.Type), Mesh: o.Mesh, Name: o.Name,
				IncludeEDS: q.IncludeEDS, UsedOnly: q.UsedOnly, JSON: q.JSON,
			})
		}
	}
}

// ofGlobal has REST ask proxies through their zones.
func ofGlobal(ask asker, v *view.View) func(*rest.Config) {
	return func(c *rest.Config) {
		c.AskProxy = func(ctx context.Context, o *resource.Object, q rest.ProxyQuestion) ([]byte, error) {
			zone := o.Zone()
			if zone == "" {
				zone, _, _ = strings.Cut(o.Name, ".")
			}
			return ask(ctx, replica.Question{
				Ask: q.Ask, Zone: zone, Type: string(o.Type), Mesh: o.Mesh, Name: nameInZone(v.Snapshot(), zone, o),
				IncludeEDS: q.IncludeEDS, UsedOnly: q.UsedOnly, JSON: q.JSON,
			})
		}
	}
}

// nameInZone is the name under which a zone stores what it sent: on Kubernetes
// the namespace belongs to it.
func nameInZone(s *view.Snapshot, zone string, o *resource.Object) string {
	name := o.DisplayName()
	insight := s.Get(resource.ID{Type: kind.ZoneInsight, Name: zone})
	if insight == nil || o.Namespace() == "" {
		return name
	}
	subs := resource.SpecOf[systemv1.ZoneInsight](insight).GetSubscriptions()
	if len(subs) == 0 {
		return name
	}
	var cfg struct {
		Store struct {
			Type string `json:"type"`
		} `json:"store"`
	}
	// A zone whose settings cannot be read is taken for one that is not on Kubernetes.
	if err := json.Unmarshal([]byte(subs[len(subs)-1].GetConfig()), &cfg); err == nil && cfg.Store.Type == config.StoreKubernetes {
		name += "." + o.Namespace()
	}
	return name
}

// answering has a zone answer the global's questions about proxies.
func answering(ask asker) *kds.Admin {
	about := func(what string) func(context.Context, kds.AdminQuestion) ([]byte, error) {
		return func(ctx context.Context, q kds.AdminQuestion) ([]byte, error) {
			return ask(ctx, replica.Question{
				Ask: what, Type: q.Type, Mesh: q.Mesh, Name: q.Name, IncludeEDS: q.IncludeEDS, UsedOnly: q.UsedOnly, JSON: q.JSON,
			})
		}
	}
	return &kds.Admin{Config: about(rest.AskConfig), Stats: about(rest.AskStats), Clusters: about(rest.AskClusters)}
}
