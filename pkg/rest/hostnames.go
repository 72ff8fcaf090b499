package rest

import (
	"cmp"
	"maps"
	"net/http"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

type zoneName struct {
	Name string `json:"name"`
}

type hostname struct {
	Hostname string     `json:"hostname"`
	Zones    []zoneName `json:"zones"`
}

// hostnames answers the names that generators give a destination. A global,
// where none is in use, answers for the zones: a service is their own in one and
// comes from elsewhere in the others.
func (a *API) hostnames(k *resource.Kind) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s := a.View.Snapshot()
		o, err := a.find(s, r, k, titleService)
		if err != nil {
			return err
		}
		seen := a.visibleTo(r, s)
		found := map[string]bool{}
		for g := range seen.List(kind.HostnameGenerator, "") {
			if z := g.Zone(); z != "" && o.Zone() != "" && z != o.Zone() {
				continue // a zone names its own
			}
			spec := resource.SpecOf[kind.HostnameGeneratorSpec](g)
			for _, labels := range a.seenAs(o) {
				if !spec.Selects(o.Type, labels) {
					continue
				}
				if name, err := spec.HostnameOf(o, a.Site.Zone); err == nil {
					found[name] = true
				}
			}
		}
		items := []hostname{}
		zones := a.zonesOf(seen, o)
		for name := range found {
			items = append(items, hostname{name, zones})
		}
		slices.SortFunc(items, func(a, b hostname) int { return cmp.Compare(a.Hostname, b.Hostname) })
		noteRevision(w, s.Revision())
		writeJSON(w, http.StatusOK, struct {
			Total int        `json:"total"`
			Items []hostname `json:"items"`
		}{len(items), items})
		return nil
	}
}

// seenAs is the labels that a destination has where generators run.
func (a *API) seenAs(o *resource.Object) []map[string]string {
	if !a.Site.Global {
		return []map[string]string{o.Labels}
	}
	var out []map[string]string
	for _, origin := range []string{resource.OriginGlobal, resource.OriginZone} {
		l := maps.Clone(o.Labels)
		if l == nil {
			l = map[string]string{}
		}
		l[resource.LabelOrigin] = origin
		out = append(out, l)
	}
	return out
}

// zonesOf is the zone that a destination is in, or all for one that is in none.
func (a *API) zonesOf(s rows, o *resource.Object) []zoneName {
	switch {
	case o.Zone() != "":
		return []zoneName{{o.Zone()}}
	case !a.Site.Global:
		return []zoneName{{a.Site.Zone}}
	}
	out := []zoneName{}
	for z := range s.List(kind.Zone, "") {
		out = append(out, zoneName{z.Name})
	}
	return out
}
