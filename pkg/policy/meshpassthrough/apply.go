package meshpassthrough

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

func proxy(c Conf, o *policy.Own) {
	mode := Matched
	if c.PassthroughMode != nil {
		mode = *c.PassthroughMode
	}
	if mode == All || !o.Redirected {
		return
	}
	listeners := o.Passthrough()
	// Without its cluster a chain closes what it gets.
	o.Clusters = slices.DeleteFunc(o.Clusters, func(x *ir.Cluster) bool {
		return slices.ContainsFunc(listeners, func(l *ir.Listener) bool { return l.Name == x.Name })
	})
	if mode == None {
		return
	}
	matches := onEveryPort(c.AppendMatch)
	b := &builder{clusters: map[string]bool{}, routes: map[string]*ir.RouteConfig{}, own: o}
	for _, l := range listeners {
		b.listener(l, matches)
	}
}

// onEveryPort lists what may be reached: what is for any port also on each port
// that others name, since Envoy looks at the port before anything else. Of
// equals and of what excludes each other the last counts, which is that of the
// more special policy.
func onEveryPort(in []Match) []Match {
	ports := map[uint32]bool{}
	for _, m := range in {
		if m.Port != nil {
			ports[m.port()] = true
		}
	}
	var all []Match
	for _, m := range in {
		all = append(all, m)
		if m.Port != nil {
			continue
		}
		for _, p := range slices.Sorted(maps.Keys(ports)) {
			m.Port = new(int32(p))
			all = append(all, m)
		}
	}
	layer7 := map[uint32]string{} // the one protocol of HTTP of a port
	seen := map[string]bool{}
	var out []Match
	for _, m := range slices.Backward(all) {
		if isHTTP(m.Protocol) {
			if p, taken := layer7[m.port()]; taken && p != m.Protocol {
				continue
			}
			layer7[m.port()] = m.Protocol
		}
		if key := m.chain() + m.Value; !seen[key] {
			seen[key] = true
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, compare)
	return out
}

// compare gives the order in which chains are listed. Envoy chooses by how
// special they are; the order only makes equal input give equal output.
func compare(a, b Match) int {
	return cmp.Or(
		cmp.Compare(slices.Index(protocolOrder, a.Protocol), slices.Index(protocolOrder, b.Protocol)),
		strings.Compare(a.Type, b.Type),
		cmp.Compare(b.port(), a.port()),
		-cmp.Compare(strings.Count(a.Value, "."), strings.Count(b.Value, ".")),
		strings.Compare(a.Value, b.Value),
	)
}

var protocolOrder = []string{TLS, MySQL, TCP, HTTP, HTTP2, GRPC}

func (m Match) portName() string {
	if m.Port == nil {
		return "*"
	}
	return strconv.Itoa(int(*m.Port))
}

// layer is the protocol as far as Envoy sees it.
func (m Match) layer() string {
	if m.Protocol == MySQL {
		return TCP
	}
	return m.Protocol
}

// name is that of the cluster, and of the chain unless domains share one.
func (m Match) name() string {
	return fmt.Sprintf("meshpassthrough_%s_%s_%s", m.layer(), m.Value, m.portName())
}

func (m Match) chain() string {
	if isHTTP(m.Protocol) && m.Type == Domain {
		return fmt.Sprintf("meshpassthrough_%s_%s", m.Protocol, m.portName())
	}
	return m.name()
}

// prefix is the addresses that are meant; not valid for domains.
func (m Match) prefix() netip.Prefix {
	switch m.Type {
	case IP:
		if a, err := netip.ParseAddr(m.Value); err == nil {
			return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
	case CIDR:
		if p, err := netip.ParsePrefix(m.Value); err == nil {
			return p.Masked()
		}
	}
	return netip.Prefix{}
}

type builder struct {
	own      *policy.Own
	clusters map[string]bool
	routes   map[string]*ir.RouteConfig
}

// listener replaces the chains of a family of addresses. One for which there is
// nothing keeps the chain that leads nowhere.
func (b *builder) listener(l *ir.Listener, matches []Match) {
	ipv6 := strings.HasSuffix(l.Name, "_ipv6")
	matches = slices.DeleteFunc(slices.Clone(matches), func(m Match) bool {
		return m.Type != Domain && (!m.prefix().IsValid() || m.prefix().Addr().Is6() != ipv6)
	})
	if len(matches) == 0 {
		return
	}
	l.Chains = nil
	waiting := map[uint32]bool{} // ports on which the client's first bytes decide
	silent := map[uint32]bool{}
	for _, m := range matches {
		if m.layer() == TCP {
			silent[m.port()] = true
		} else {
			waiting[m.port()] = true
		}
		l.InspectHTTP = l.InspectHTTP || isHTTP(m.Protocol)
		b.add(l, m)
	}
	if len(waiting) == 0 { // nothing has to be told apart, and servers may speak first
		for _, c := range l.Chains {
			c.Match.TransportProtocol = ""
		}
		return
	}
	for _, p := range slices.Sorted(maps.Keys(silent)) {
		if mysql := slices.ContainsFunc(matches, func(m Match) bool { return m.Protocol == MySQL && m.port() == p }); p != 0 && (mysql || !waiting[p]) {
			l.SilentPorts = append(l.SilentPorts, p)
		}
	}
}

func (b *builder) add(l *ir.Listener, m Match) {
	b.cluster(m)
	match := ir.ChainMatch{Port: m.port(), TransportProtocol: "raw_buffer"}
	if p := m.prefix(); p.IsValid() {
		match.Prefixes = []string{p.String()}
	}
	target := []ir.WeightedRef{{Cluster: m.name(), Weight: 1}}
	switch {
	case m.layer() == TCP:
		l.Chains = append(l.Chains, &ir.Chain{Name: m.name(), Match: match, TCP: &ir.TCPProxy{StatPrefix: m.name(), Clusters: target}})
	case m.Protocol == TLS:
		match.TransportProtocol = "tls"
		if m.Type == Domain && m.Value != "*" {
			match.ServerNames = []string{m.Value}
		}
		l.Chains = append(l.Chains, &ir.Chain{Name: m.name(), Match: match, TCP: &ir.TCPProxy{StatPrefix: m.name(), Clusters: target}})
	default:
		match.ApplicationProtocols = []string{"http/1.0", "http/1.1", "h2c"}
		b.http(l, m, match, target)
	}
}

// http adds a chain and its routes. Domains of one port share them.
func (b *builder) http(l *ir.Listener, m Match, match ir.ChainMatch, target []ir.WeightedRef) {
	name := m.chain()
	if !slices.ContainsFunc(l.Chains, func(c *ir.Chain) bool { return c.Name == name }) {
		l.Chains = append(l.Chains, &ir.Chain{Name: name, Match: match, HTTP: &ir.HTTP{StatPrefix: name, RouteConfig: name}})
	}
	rc := b.routes[name]
	if rc == nil {
		rc = &ir.RouteConfig{Name: name, VirtualHost: m.Value}
		if m.Type == Domain {
			rc.VirtualHost = "no_match"
			rc.Routes = []*ir.Route{{
				Match:  ir.RouteMatch{Prefix: "/"},
				Direct: &ir.Direct{Status: 503, Body: "This domain is not among those that may be reached.\n"},
			}}
		}
		b.routes[name] = rc
		b.own.Routes = append(b.own.Routes, rc)
	}
	route := &ir.Route{
		Match:   ir.RouteMatch{Prefix: "/"},
		Forward: &ir.Forward{Clusters: target, Timeout: new(time.Duration)},
	}
	switch {
	case m.Type != Domain, m.Value == "*":
		rc.VirtualHost, rc.Routes = m.Value, []*ir.Route{route}
	case !slices.ContainsFunc(rc.Hosts, func(h ir.Host) bool { return h.Name == m.Value }):
		h := ir.Host{Name: m.Value, Domains: []string{m.Value}, Routes: []*ir.Route{route}}
		switch {
		case m.Port != nil:
			h.Domains = append(h.Domains, m.Value+":"+m.portName())
		case !strings.HasPrefix(m.Value, "*"):
			h.Domains = append(h.Domains, m.Value+":*")
		}
		rc.Hosts = append(rc.Hosts, h)
	}
}

func (b *builder) cluster(m Match) {
	name := m.name()
	if b.clusters[name] {
		return
	}
	b.clusters[name] = true
	x := &ir.Cluster{Name: name, Type: ir.OriginalDst, ConnectTimeout: new(5 * time.Second)}
	if m.Protocol == HTTP2 || m.Protocol == GRPC {
		x.Protocol = ir.HTTP2
	}
	b.own.Clusters = append(b.own.Clusters, x)
}
