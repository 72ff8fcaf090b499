package control

import (
	"log/slog"
	"net/netip"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// addresses gives each destination of one kind that this zone knows a virtual
// address. What is stored is the truth; an address that was given out is not
// given to another destination until there are no others left, so that nobody
// who still resolves the old name reaches the new one.
type addresses struct {
	addressed
	site      resource.Site
	cidr      netip.Prefix
	log       *slog.Logger
	owner     map[netip.Addr]resource.ID
	given     map[resource.ID]netip.Addr // decided, perhaps not yet stored
	next      netip.Addr
	exhausted bool // there was none left when last looked
}

// addressed is a kind whose resources have virtual addresses in their status.
type addressed struct {
	kind    resource.Type
	setting string // from which the range is
	vips    func(o *resource.Object) []kind.VIP
	// with is the status of o with another address.
	with func(o *resource.Object, vip kind.VIP) any
}

// status returns a copy of the status of o, which may have none.
func status[T any](o *resource.Object) *T {
	var s T
	if old := resource.StatusOf[T](o); old != nil {
		s = *old
	}
	return &s
}

var (
	meshServices = addressed{
		kind: kind.MeshService, setting: "ipam.meshService.cidr",
		vips: func(o *resource.Object) []kind.VIP { return status[kind.MeshServiceStatus](o).VIPs },
		with: func(o *resource.Object, vip kind.VIP) any {
			s := status[kind.MeshServiceStatus](o)
			s.VIPs = []kind.VIP{vip}
			return s
		},
	}
	multiZoneServices = addressed{
		kind: kind.MeshMultiZoneService, setting: "ipam.meshMultiZoneService.cidr",
		vips: func(o *resource.Object) []kind.VIP { return status[kind.MeshMultiZoneServiceStatus](o).VIPs },
		with: func(o *resource.Object, vip kind.VIP) any {
			s := status[kind.MeshMultiZoneServiceStatus](o)
			s.VIPs = []kind.VIP{vip}
			return s
		},
	}
	externalServices = addressed{
		kind: kind.MeshExternalService, setting: "ipam.meshExternalService.cidr",
		vips: func(o *resource.Object) []kind.VIP {
			if vip := status[kind.MeshExternalServiceStatus](o).VIP; vip.IP != "" {
				return []kind.VIP{vip}
			}
			return nil
		},
		with: func(o *resource.Object, vip kind.VIP) any {
			s := status[kind.MeshExternalServiceStatus](o)
			s.VIP = vip
			return s
		},
	}
)

func (j *addresses) plan(p *pass) {
	if p.full {
		j.owner, j.given = map[netip.Addr]resource.ID{}, map[resource.ID]netip.Addr{}
		j.next = j.cidr.Masked().Addr()
		for o := range p.now.List(j.kind, "") {
			j.reserve(o)
		}
	}
	var lacking []resource.ID
	for id := range p.touched(j.kind) {
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
		if id.Type == j.kind && w.was == nil && w.is != nil { // generated in this pass
			lacking = append(lacking, id)
		}
	}
	for _, id := range sortedIDs(lacking) {
		if o := p.get(id); o != nil && j.lacks(o) {
			j.allocate(p, o)
		}
	}
}

// lacks tells whether the destination shall have an address and has none. On
// Kubernetes local MeshServices have one from their Service.
func (j *addresses) lacks(o *resource.Object) bool {
	if j.kind == kind.MeshService && j.site.Env == resource.EnvKubernetes && j.site.LocallyOriginated(o.Labels) {
		return false
	}
	return len(j.vips(o)) == 0
}

// reserve takes note of the addresses that a destination has. Those outside the
// range are left alone.
func (j *addresses) reserve(o *resource.Object) {
	for _, v := range j.vips(o) {
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
				j.log.Error("no virtual address is left; widen the range and start again", "setting", j.setting, "cidr", j.cidr.String(), "resource", o.ID.String())
			}
			j.exhausted = true
			return
		}
		j.owner[a], j.given[o.ID] = o.ID, a
	}
	p.put(changedObject(o, o.Labels, o.Spec, j.with(o, kind.VIP{IP: a.String()})))
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
