package control

import (
	"log/slog"
	"net/netip"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// addresses gives each MeshService that this zone knows a virtual address. What
// is stored is the truth; an address that was given out is not given to another
// service until there are no others left, so that nobody who still resolves the
// old name reaches the new service.
type addresses struct {
	site      resource.Site
	cidr      netip.Prefix
	log       *slog.Logger
	owner     map[netip.Addr]resource.ID
	given     map[resource.ID]netip.Addr // decided, perhaps not yet stored
	next      netip.Addr
	exhausted bool // there was none left when last looked
}

func (j *addresses) plan(p *pass) {
	if p.full {
		j.owner, j.given = map[netip.Addr]resource.ID{}, map[resource.ID]netip.Addr{}
		j.next = j.cidr.Masked().Addr()
		for o := range p.now.List(kind.MeshService, "") {
			j.reserve(o)
		}
	}
	var lacking []resource.ID
	for id := range p.touched(kind.MeshService) {
		o := p.now.Get(id)
		if o == nil {
			delete(j.given, id)
			j.exhausted = false // its address may be had again
			continue
		}
		j.reserve(o)
		lacking = append(lacking, id)
	}
	for id, w := range p.wanted {
		if id.Type == kind.MeshService && w.was == nil && w.is != nil { // generated in this pass
			lacking = append(lacking, id)
		}
	}
	for _, id := range sortedIDs(lacking) {
		if o := p.get(id); o != nil && j.lacks(o) {
			j.allocate(p, o)
		}
	}
}

// lacks tells whether the service shall have an address and has none. On
// Kubernetes local services have one from their Service.
func (j *addresses) lacks(o *resource.Object) bool {
	if j.site.Env == resource.EnvKubernetes && j.site.LocallyOriginated(o.Labels) {
		return false
	}
	status := resource.StatusOf[kind.MeshServiceStatus](o)
	return status == nil || len(status.VIPs) == 0
}

// reserve takes note of the addresses that a service has. Those outside the
// range are left alone.
func (j *addresses) reserve(o *resource.Object) {
	status := resource.StatusOf[kind.MeshServiceStatus](o)
	if status == nil {
		return
	}
	for _, v := range status.VIPs {
		a, err := netip.ParseAddr(v.IP)
		if err != nil || !j.cidr.Contains(a) {
			continue
		}
		j.owner[a] = o.ID
		if !a.Less(j.next) {
			j.next = a.Next()
		}
	}
}

func (j *addresses) allocate(p *pass, o *resource.Object) {
	a, ok := j.given[o.ID]
	if !ok {
		if a, ok = j.take(p); !ok {
			if !j.exhausted {
				j.log.Error("no virtual address is left for MeshServices; widen ipam.meshService.cidr and start again", "cidr", j.cidr.String(), "service", o.ID.String())
			}
			j.exhausted = true
			return
		}
		j.owner[a], j.given[o.ID] = o.ID, a
	}
	var status kind.MeshServiceStatus
	if s := resource.StatusOf[kind.MeshServiceStatus](o); s != nil {
		status = *s
	}
	status.VIPs = []kind.VIP{{IP: a.String()}}
	p.put(changedObject(o, o.Labels, o.Spec, &status))
}

// take returns the next address nobody had, or, when there is none, the first
// whose service is gone.
func (j *addresses) take(p *pass) (netip.Addr, bool) {
	for j.cidr.Contains(j.next) {
		a := j.next
		j.next = a.Next()
		if _, had := j.owner[a]; !had {
			return a, true
		}
	}
	if j.exhausted {
		return netip.Addr{}, false
	}
	for a := j.cidr.Masked().Addr(); j.cidr.Contains(a); a = a.Next() {
		owner, had := j.owner[a]
		if !had || p.get(owner) == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}
