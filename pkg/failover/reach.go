package failover

import (
	"fmt"
	"time"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// reach looks whether proxies in the zone of e reach the entrances of a candidate
// now: what they say of it when they try.
func (l *losing) reach(e *eye, c candidate) []Gap {
	o := e.snap.Get(resource.ID{Type: kind.ZoneLink, Name: kind.ZoneLinkName(e.zone, c.zone)})
	if o == nil {
		return nil // nobody probes
	}
	spec := resource.SpecOf[kind.ZoneLinkSpec](o)
	if !gone(spec) {
		return nil
	}
	return []Gap{l.gap(Unreachable, Error, c.svc.KRI().String(),
		fmt.Sprintf("zone %s does not reach zone %s, since %s", e.zone, c.zone, spec.Since.UTC().Format(time.RFC3339)),
		"see 'atollctl inspect zones'; look at the zone proxies of "+c.zone+" and at firewalls between the zones")}
}

// drained tells whether the service gives its traffic in a zone away.
func (l *losing) drained(zone string) bool {
	o := l.Source.Get(resource.ID{Type: kind.ZoneTraffic, Name: zone})
	if o == nil {
		return false
	}
	spec := resource.SpecOf[kind.ZoneTrafficSpec](o)
	if spec.Share == 0 {
		return true
	}
	for _, s := range spec.Services {
		if s.Mesh == l.mesh && s.Name == l.name && s.Namespace == l.namespace && s.Share == 0 {
			return true
		}
	}
	return false
}

// overdue is the part of a certificate's life that is left when something is
// wrong: it should have been renewed at a third.
const overdue = 5

// certificates looks for proxies whose certificate was not renewed in time. When
// it ends, nobody accepts them any more.
func (w *world) certificates(r *Report, only string) {
	if w.Files {
		return
	}
	for o := range w.Source.List(kind.DataplaneInsight, only) {
		insight := resource.SpecOf[mesh_proto.DataplaneInsight](o)
		tls := insight.GetMTLS()
		if tls.GetCertificateExpirationTime() == nil || !kind.DataplaneOnline(insight) {
			continue
		}
		ends, made := tls.GetCertificateExpirationTime().AsTime(), tls.GetLastCertificateRegeneration().AsTime()
		left := ends.Sub(w.Now)
		if tls.GetLastCertificateRegeneration() == nil || left > ends.Sub(made)/overdue {
			continue
		}
		dp := resource.ID{Type: kind.Dataplane, Mesh: o.Mesh, Name: o.Name}
		about := dp.String()
		if p := w.Source.Get(dp); p != nil {
			about = p.KRI().String()
		}
		g := Gap{
			Code: NotRenewed, Severity: Warning, Mesh: o.Mesh, Resource: about,
			Message: "the certificate of proxy " + o.DisplayName() + " ends at " + ends.UTC().Format(time.RFC3339) + " and was not renewed in time",
			Remedy:  "see the conditions of its MeshIdentity, and whether its proxy takes configuration ('atollctl inspect dataplanes')",
		}
		if left <= 0 {
			g.Severity = Error
		}
		r.add(g, "")
	}
}
