package failover

import (
	"crypto/x509"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtrafficpermission"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Times before the end of a CA at which it becomes a gap.
const (
	expiresSoon     = 30 * 24 * time.Hour
	expiresVerySoon = 7 * 24 * time.Hour
)

// expiring looks at the CAs of MeshTrusts: when one ends, proxies of its zone
// are refused everywhere else. That no other one is still in use cannot be seen,
// so one that ended is left alone where another of the trust domain goes on.
func (w *world) expiring(r *Report, only string) {
	for o := range w.Source.List(kind.MeshTrust, only) {
		var last time.Time
		for der := range identity.Certificates(resource.SpecOf[kind.MeshTrustSpec](o)) {
			if c, err := x509.ParseCertificate(der); err == nil && c.NotAfter.After(last) {
				last = c.NotAfter
			}
		}
		left := last.Sub(w.Now)
		if last.IsZero() || left > expiresSoon {
			continue
		}
		g := Gap{
			Code: Expiring, Severity: Warning, Mesh: o.Mesh, Resource: o.KRI().String(),
			Message: "the last CA of the trust domain " + resource.SpecOf[kind.MeshTrustSpec](o).TrustDomain + " ends at " + last.UTC().Format(time.RFC3339),
			Remedy:  "give the MeshIdentity a new CA; the old one stays trusted meanwhile",
		}
		if left < expiresVerySoon {
			g.Severity = Error
		}
		r.add(g, "")
	}
}

// trust looks whether clients in the zone of e and proxies of a candidate can
// authenticate each other.
func (l *losing) trust(e *eye, c candidate) []Gap {
	var gaps []Gap
	missing := func(who, whom *eye, zone string, domains []string) {
		trusted := identity.Trust(who.snap.List(kind.MeshTrust, l.mesh))
		for _, d := range domains {
			if slices.ContainsFunc(trusted, func(t identity.TrustDomain) bool { return t.Name == d }) || l.willTrust(who, whom) {
				continue
			}
			gaps = append(gaps, l.gap(NoTrust, Error, c.svc.KRI().String(),
				fmt.Sprintf("zone %s does not trust the domain %s of zone %s", who.zone, d, zone),
				"let zones share trust (remove atoll.mesh/share-trust: \"false\" from the Mesh), or create a MeshTrust for "+d+" at the global"))
		}
	}
	other := l.eyes[c.zone]
	missing(e, other, c.zone, l.domains(other, c.svc))
	if other != nil {
		missing(other, e, e.zone, l.domains(e, nil))
	}
	return gaps
}

// willTrust tells whether the control planes are going to see to it themselves.
func (l *losing) willTrust(who, whom *eye) bool {
	if !l.Files || whom == nil {
		return false
	}
	if m := who.snap.Get(resource.ID{Type: kind.Mesh, Name: l.mesh}); m != nil && m.Labels["atoll.mesh/share-trust"] == "false" {
		return false
	}
	for o := range whom.snap.List(kind.MeshIdentity, l.mesh) {
		p := resource.SpecOf[kind.MeshIdentitySpec](o).Provider
		if p != nil && p.Bundled != nil && p.Bundled.CreatesTrust() {
			return true
		}
	}
	return false
}

// domains are the trust domains of a zone: those of its identities, or as far as
// another zone knows those of a service.
func (l *losing) domains(e *eye, svc *resource.Object) []string {
	var out []string
	if e != nil {
		for _, i := range identity.NewMesh(e.site, e.snap, l.mesh).All() {
			if d, err := i.TrustDomain(); err == nil {
				out = append(out, d)
			}
		}
	} else if svc != nil {
		for _, i := range resource.SpecOf[kind.MeshServiceSpec](svc).Identities {
			d, _, _ := strings.Cut(strings.TrimPrefix(i.Value, "spiffe://"), "/")
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// permission looks for clients in the zone of e that may call the proxies of the
// lost zone and not those of a candidate.
func (l *losing) permission(e *eye, c candidate) []Gap {
	lost, other := l.eyes[l.zone], l.eyes[c.zone]
	if lost == nil || other == nil {
		return nil
	}
	before, after := l.guardOf(lost, l.own()), l.guardOf(other, c.svc)
	if before == nil || after == nil {
		return nil
	}
	for _, id := range e.spiffeIDs(l.mesh) {
		if before.lets(id) && !after.lets(id) {
			return []Gap{l.gap(NotPermitted, Error, c.svc.KRI().String(),
				fmt.Sprintf("clients such as %s may call the service in zone %s, but not in zone %s", id, l.zone, c.zone),
				"allow them in a MeshTrafficPermission that selects the proxies of zone "+c.zone)}
		}
	}
	return nil
}

// spiffeIDs are the identities of all proxies of a mesh in the zone, sorted.
func (e *eye) spiffeIDs(mesh string) []string {
	if out, ok := e.spiffe[mesh]; ok {
		return out
	}
	var out []string
	ids := identity.NewMesh(e.site, e.snap, mesh)
	for dp := range e.snap.List(kind.Dataplane, mesh) {
		if i := ids.Of(&dp.Meta); i != nil {
			if id, err := i.SpiffeID(&dp.Meta); err == nil {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	e.spiffe[mesh] = out
	return out
}

// guarded is what the permissions of a service's proxies say.
type guarded struct{ confs []meshtrafficpermission.Conf }

// guardOf reads the permissions of the first proxy of a service; nil when there
// is none, or when it has no identity and asks nobody for theirs.
func (l *losing) guardOf(e *eye, svc *resource.Object) *guarded {
	g, known := e.guards[svc.ID]
	if !known {
		g = l.readGuard(e, svc)
		e.guards[svc.ID] = g
	}
	return g
}

func (l *losing) readGuard(e *eye, svc *resource.Object) *guarded {
	for id := range e.snap.Topology().Members(svc.ID) {
		dp := e.snap.Get(id)
		if identity.NewMesh(e.site, e.snap, l.mesh).Of(&dp.Meta) == nil {
			return nil
		}
		k := meshtrafficpermission.Def.Kind().Type
		g := &guarded{}
		ix := policy.NewIndex([]*policy.Def{meshtrafficpermission.Def}, func(t resource.Type) iter.Seq[*resource.Object] {
			return e.snap.List(t, l.mesh)
		})
		for _, o := range ix.Match(policy.ProxyOf(dp), policy.Options{}).Policies(k) {
			for _, r := range resource.SpecOf[meshtrafficpermission.Spec](o).Rules {
				g.confs = append(g.confs, r.Default)
			}
		}
		return g
	}
	return nil
}

// lets tells whether a client may call. What depends on the server name is taken
// to let in: it is the same for both zones.
func (g *guarded) lets(id string) bool {
	matches := func(list []policy.Match) bool {
		return slices.ContainsFunc(list, func(m policy.Match) bool {
			switch {
			case m.SpiffeID == nil:
				return m.SNI != nil
			case m.SpiffeID.Type == policy.Prefix:
				return strings.HasPrefix(id, m.SpiffeID.Value)
			}
			return id == m.SpiffeID.Value
		})
	}
	allowed := false
	for _, c := range g.confs {
		for _, m := range c.Deny {
			if m.SNI == nil && matches([]policy.Match{m}) {
				return false
			}
		}
		allowed = allowed || matches(c.Allow) || matches(c.AllowWithShadowDeny)
	}
	return allowed
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
