package policy

import (
	"strconv"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Proxy is what of a Dataplane decides which policies select it.
type Proxy struct {
	Meta     *resource.Meta
	Sections []Section // its inbounds, then the listeners of a zone proxy
	// Tags of a delegated gateway, which come before labels where a policy asks
	// what kind of client a proxy is.
	Tags    map[string]string
	Gateway bool // delegated gateway: no inbounds, but policies for clients apply
	// Says is what an agent can do, by the keys below. What clients share may
	// depend on it as on labels.
	Says map[string]string
}

// Keys of Proxy.Says, beside which no label can be named.
const (
	// SaysOTLP: the agent takes OTLP for collectors.
	SaysOTLP = "agent:otlp"
	// SaysLogPipe is where the agent takes lines for TCP backends.
	SaysLogPipe = "agent:log-pipe"
	// SaysService is the workload, unless Envoy's environment names it, so that
	// configuration for all workloads can be the same: then it is AgentNames.
	SaysService = "agent:service"
)

// AgentNames is the value of SaysService of proxies whose environment has
// EnvWorkload and OTEL_RESOURCE_ATTRIBUTES.
const AgentNames = "\x00"

// EnvWorkload is the variable that has the KRI of the workload.
const EnvWorkload = "ATOLL_WORKLOAD"

// Section is one inbound, or one listener of a zone proxy.
type Section struct {
	Name      string // its name, or its port as a number
	Address   string // where it listens
	Port      uint32
	ZoneProxy bool
}

// ProxyOf reads a resource of kind Dataplane.
func ProxyOf(dp *resource.Object) *Proxy {
	n := resource.SpecOf[mesh_proto.Dataplane](dp).GetNetworking()
	p := &Proxy{Meta: &dp.Meta, Gateway: n.GetGateway() != nil, Tags: n.GetGateway().GetTags()}
	section := func(name, address string, port uint32, zoneProxy bool) {
		if name == "" {
			name = strconv.FormatUint(uint64(port), 10)
		}
		if address == "" {
			address = n.GetAddress()
		}
		p.Sections = append(p.Sections, Section{Name: name, Address: address, Port: port, ZoneProxy: zoneProxy})
	}
	for _, in := range n.GetInbound() {
		section(in.GetName(), in.GetAddress(), in.GetPort(), false)
	}
	for _, l := range n.GetListeners() {
		section(l.GetName(), l.GetAddress(), l.GetPort(), true)
	}
	return p
}

// Options of a match.
type Options struct {
	Shadow bool // also apply policies with the effect "shadow"
}

// Matched is the policies that select one proxy.
type Matched struct {
	ix    *Index
	proxy *Proxy
	set   set
	out   *matchedTo
}

// OutboundDigest identifies everything the matched policies say about
// outbounds: proxies with equal digests have equal OutboundRules.
func (m *Matched) OutboundDigest() Digest {
	if len(m.out.labels.Client) == 0 {
		return m.out.digest
	}
	h := new(hash).digest(m.out.digest)
	for _, key := range m.out.labels.Client {
		v, ok := m.proxy.label(key)
		h.text(v).number(boolRank(ok))
	}
	return h.sum()
}

// InboundDigest identifies everything the matched policies say about the
// proxy's inbounds and about the proxy as a whole, given its Proxy.
func (m *Matched) InboundDigest() Digest {
	h := new(hash)
	for _, di := range m.ix.defs {
		if di.unknown != nil || di.needs != nil {
			for _, e := range m.out.entries[di.pos] {
				h.digest(e.digest)
			}
		}
		for _, p := range di.policies {
			if m.set.has(p.bit) && (len(p.body.rules) > 0 || p.body.def != nil) {
				h.digest(p.rulesDigest).digest(p.defaultDigest)
			}
		}
	}
	return h.sum()
}

// Policies yields the matched policies of one kind in ascending precedence.
func (m *Matched) Policies(t resource.Type) []*resource.Object {
	var out []*resource.Object
	for _, di := range m.ix.defs {
		if di.kind.Type != t {
			continue
		}
		for _, p := range di.policies {
			if m.set.has(p.bit) {
				out = append(out, p.obj)
			}
		}
	}
	return out
}

// Proxy applies the policies that configure the proxy as a whole to its own
// layer.
func (m *Matched) Proxy(c *Own) {
	for _, di := range m.ix.defs {
		if di.needs != nil {
			for _, e := range m.out.entries[di.pos] {
				di.needs(e.conf, c)
			}
			for _, e := range di.rules {
				if m.set.has(e.p.bit) {
					di.needs(e.conf, c)
				}
			}
		}
		if di.unknown != nil {
			if entries := m.out.forDest(di, Dest{Destination: &Destination{}}); len(entries) > 0 {
				di.unknown(m.out.join(di, entries).conf, c)
			}
		}
		if di.proxy == nil {
			continue
		}
		if conf := m.proxyConf(di); conf != nil {
			di.proxy(conf.conf, c)
		}
	}
}

func (m *Matched) proxyConf(di *defIndex) *merged {
	var items []item
	for _, p := range di.policies {
		if m.set.has(p.bit) && p.body.def != nil {
			items = append(items, item{conf: p.body.def, Origin: Origin{Policy: p.obj}})
		}
	}
	if len(items) == 0 {
		return nil
	}
	return di.join(items)
}

// merged is confs that became one, and where they came from in ascending order.
type merged struct {
	conf    any
	origins []Origin
	items   []item
}

func (di *defIndex) join(items []item) *merged {
	out := &merged{conf: di.merge(items), items: items}
	for _, it := range items {
		out.origins = append(out.origins, it.Origin)
	}
	return out
}

// set is a set of policies of one Index.
type set []byte

func newSet(bits int) set { return make(set, (bits+7)/8) }

func (s set) add(bit int)      { s[bit/8] |= 1 << (bit % 8) }
func (s set) has(bit int) bool { return s[bit/8]&(1<<(bit%8)) != 0 }
