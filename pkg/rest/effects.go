package rest

import (
	"net/http"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Bounds of what a preview tells of Envoy's configuration. The rest is counted.
const (
	maxCompared   = 2000 // proxies
	maxGroups     = 20
	maxGroupNames = 20
	maxChanges    = 20   // resources of a group
	maxDiffBytes  = 4000 // of one resource
)

// xdsEffects is what Envoys would be given otherwise.
type xdsEffects struct {
	Compared int         `json:"compared"` // proxies
	Changed  int         `json:"changed"`  // of them
	Groups   []xdsEffect `json:"groups"`
}

// xdsEffect is the same change of several proxies.
type xdsEffect struct {
	Proxies nameList    `json:"proxies"` // mesh/name
	Total   int         `json:"total"`   // resources that change
	Changes []xdsChange `json:"changes"`
}

type xdsChange struct {
	Type      string `json:"type"` // cds, lds, …
	Name      string `json:"name"`
	Operation string `json:"operation"`      // add, remove or change
	Diff      string `json:"diff,omitempty"` // unified; for those who may read configuration
}

// effects compares what the proxies of a mesh are given with and without a
// change of a policy. Nil: that cannot be told here.
func (a *API) effects(r *http.Request, s *view.Snapshot, old, next *resource.Object, named map[string]bool) (*xdsEffects, error) {
	some := next
	if some == nil {
		some = old
	}
	if some.Kind.Policy == nil || a.Site.Global || a.ProxyInfo == nil {
		return nil, nil
	}
	after := s.Without([]resource.ID{some.ID})
	if next != nil {
		after = s.With(next)
	}
	var proxies []compile.ProxyInfo
	for dp := range a.visibleTo(r, s).List(kind.Dataplane, some.Mesh) {
		if !named[dp.Mesh+"/"+dp.Name] || len(proxies) == maxCompared {
			continue // no policy of it changes
		}
		insight := &meshv1.DataplaneInsight{}
		if o := s.Get(resource.ID{Type: kind.DataplaneInsight, Mesh: dp.Mesh, Name: dp.Name}); o != nil {
			insight = resource.SpecOf[meshv1.DataplaneInsight](o)
		}
		proxies = append(proxies, a.ProxyInfo(dp.ID, insight))
	}
	bodies := a.Access.ConfigDump(auth.UserFrom(r.Context())) == nil
	out := &xdsEffects{Compared: len(proxies), Groups: []xdsEffect{}}
	groups, err := inTurn(r.Context(), a.looking, func() ([]compile.Effect, error) {
		return compile.Effects(a.Compile, s, after, proxies), nil
	})
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		out.Changed += len(g.Proxies)
		if len(out.Groups) == maxGroups {
			continue
		}
		e := xdsEffect{Proxies: nameList{Total: len(g.Proxies), Names: []string{}}, Total: len(g.Changes), Changes: []xdsChange{}}
		for _, id := range g.Proxies[:min(len(g.Proxies), maxGroupNames)] {
			e.Proxies.Names = append(e.Proxies.Names, id.Mesh+"/"+id.Name)
		}
		for _, c := range g.Changes[:min(len(g.Changes), maxChanges)] {
			x := xdsChange{Type: c.Type.String(), Name: c.Name, Operation: "change"}
			switch {
			case c.Before == nil:
				x.Operation = "add"
			case c.After == nil:
				x.Operation = "remove"
			}
			if bodies {
				x.Diff = unified(c)
			}
			e.Changes = append(e.Changes, x)
		}
		out.Groups = append(out.Groups, e)
	}
	return out, nil
}

// unified is the difference between the JSON of two resources.
func unified(c compile.Change) string {
	before, after := c.Text()
	d := string(diff.Diff("before", before, "after", after))
	if i := strings.Index(d, "@@"); i > 0 {
		d = d[i:]
	}
	if len(d) > maxDiffBytes {
		d = strings.ToValidUTF8(d[:maxDiffBytes], "") + "\n…\n"
	}
	return d
}
