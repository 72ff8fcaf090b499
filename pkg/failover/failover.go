// Package failover tells beforehand what the loss of a zone would do: what would
// serve each service then, through what, and every reason that it would not. It
// looks at each zone with the code that compiles for its proxies, over the same
// resources less what is lost. Everything is a pure function of its input.
package failover

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// Inputs is what is looked at.
type Inputs struct {
	Kinds    *resource.Kinds
	Policies []*policy.Def
	// Site is whose resources Source has. A global sees all zones; a zone knows
	// only how it would fare itself.
	Site   resource.Site
	Source topology.Source
	// Now is compared with the expiry of certificates.
	Now time.Time
	// Files: Source is what is going to be applied. That zones are connected, and
	// that control planes make what they make, is taken for granted.
	Files bool
}

// Query narrows what is looked at. Empty: all.
type Query struct{ Mesh, Zone string }

// Severities of gaps.
const (
	// Error: requests would fail.
	Error = "error"
	// Warning: requests would be served, but not as well, or not for sure.
	Warning = "warning"
)

// Codes of gaps. They never change their meaning; docs/failover.md has a section
// for each.
const (
	OneZone        = "ATL1001" // the service is only in the zone
	NotJoined      = "ATL1002" // in several zones, but clients cannot call them as one
	NoCrossing     = "ATL1003" // a strategy leaves out the endpoints of other zones
	NoEntrance     = "ATL1004" // a zone that should serve cannot be entered
	OneZoneProxy   = "ATL1005" // a zone that should serve has a single zone proxy
	NoTrust        = "ATL1006" // the zones cannot authenticate each other
	NotPermitted   = "ATL1007" // clients may call the lost zone's proxies only
	TooFew         = "ATL1008" // too few endpoints elsewhere for the load
	Stale          = "ATL1009" // a zone that should serve is not connected
	Expiring       = "ATL1010" // a CA ends soon
	NotReady       = "ATL1011" // a zone that should serve has no ready endpoint
	PortMissing    = "ATL1012" // a port is not served in any other zone
	ZoneIsDisabled = "ATL1013" // a zone that should serve is disabled
	Unreachable    = "ATL1014" // zones do not reach each other now
	NotEjected     = "ATL1015" // Envoy cannot leave out the endpoints that would be lost
	NoRetry        = "ATL1016" // requests have no second chance
	NotRenewed     = "ATL1017" // the certificate of a proxy was not renewed in time
	RoutedAway     = "ATL1018" // a route leads to what only the lost zone serves
	IsDraining     = "ATL1019" // a zone that should serve gives its traffic away
)

// Gap is one reason that something would break.
type Gap struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Mesh     string `json:"mesh"`
	// Service is the name that it has in all zones; empty: all services.
	Service string `json:"service,omitempty"`
	// Zone is the one that would be lost; empty: any.
	Zone string `json:"zone,omitempty"`
	// Clients are the zones whose requests would fail or suffer.
	Clients  []string `json:"clients,omitempty"`
	Resource string   `json:"resource"` // KRI of what to look at
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy"`
	Docs     string   `json:"docs"`
}

// Loss is what the loss of a zone would mean to a service.
type Loss struct {
	Mesh    string   `json:"mesh"`
	Service string   `json:"service"`
	Zone    string   `json:"zone"`
	Serves  []Server `json:"serves"` // what would serve it
	Gaps    []string `json:"gaps"`   // codes
}

// Server is a zone that would serve.
type Server struct {
	Zone      string `json:"zone"`
	Through   string `json:"through"` // KRI of the MeshMultiZoneService
	Endpoints int    `json:"endpoints"`
	// Drained: it serves only because nobody else can.
	Drained bool `json:"drained,omitempty"`
}

// Report is all gaps, and all losses that were considered, in a stable order.
type Report struct {
	Gaps   []Gap  `json:"gaps"`
	Losses []Loss `json:"losses"`

	at map[gapKey]int // where in Gaps, until they are sorted
}

// gapKey is what makes two gaps one.
type gapKey struct{ code, mesh, service, zone, resource, message string }

// add enters a gap, or another client of one that is there, which is then as
// severe as the worse of both.
func (r *Report) add(g Gap, client string) {
	g.Docs = "docs/failover.md#" + strings.ToLower(g.Code)
	key := gapKey{g.Code, g.Mesh, g.Service, g.Zone, g.Resource, g.Message}
	at, there := r.at[key]
	if !there {
		if r.at == nil {
			r.at = map[gapKey]int{}
		}
		at = len(r.Gaps)
		r.at[key] = at
		r.Gaps = append(r.Gaps, g)
	}
	if g.Severity == Error {
		r.Gaps[at].Severity = Error
	}
	if client != "" && !slices.Contains(r.Gaps[at].Clients, client) {
		r.Gaps[at].Clients = append(r.Gaps[at].Clients, client)
	}
}

func (r *Report) sort() {
	slices.SortFunc(r.Gaps, func(a, b Gap) int {
		return cmp.Or(strings.Compare(a.Mesh, b.Mesh), strings.Compare(a.Service, b.Service), strings.Compare(a.Zone, b.Zone),
			strings.Compare(a.Code, b.Code), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Message, b.Message))
	})
	for i := range r.Gaps {
		slices.Sort(r.Gaps[i].Clients)
	}
	r.at = nil
	type about struct{ mesh, service, zone string }
	codes := map[about][]string{}
	for _, g := range r.Gaps {
		k := about{g.Mesh, g.Service, g.Zone}
		codes[k] = append(codes[k], g.Code)
	}
	for i := range r.Losses {
		l := &r.Losses[i]
		l.Gaps = append(l.Gaps, slices.Compact(codes[about{l.Mesh, l.Service, l.Zone}])...)
	}
}
