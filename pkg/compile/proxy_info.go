package compile

import (
	"net/netip"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Features of an agent that shape configuration.
const (
	FeatureReusePort     = "feature-reuse-port"
	FeatureBindOutbounds = "feature-bind-outbounds"
	// FeatureReadinessBesideDataplane: the agent answers readiness on the address
	// of its Dataplane when that is a loopback address, else on the loopback
	// address of the same family.
	FeatureReadinessBesideDataplane = "atoll-readiness-beside-dataplane"
)

// ProxyInfo is what a proxy said about itself when it connected. It does not
// change while the proxy is attached.
type ProxyInfo struct {
	ID       resource.ID // of its Dataplane
	Features []string
	// TransparentProxy is the agent's redirection of connections. Nil: what the
	// Dataplane says, if anything.
	TransparentProxy *TransparentProxy
	AdminPort        uint32 // of Envoy's administration; 0: what the Dataplane says
	AdminAddress     string // where Envoy's own administration listens, when that is TCP
	AdminSocket      string // its path, when it is a unix socket
	ReadinessPort    uint32 // of the agent; 0: none
	DNSPort          uint32 // of the agent; 0: none
	IPv6             bool   // the host can use IPv6
	Workdir          string
	SpireSocket      string // of a SPIRE agent beside the proxy; empty: where they usually are
	MetricsCert      string // files of the proxy, for those who read its metrics
	MetricsKey       string
	NodeAddress      string         // of the machine that the proxy runs on; empty: unknown
	OTLPEnv          policy.OTLPEnv // of the agent
	SystemCA         string         // path of the CAs that the proxy's system trusts; empty: unknown
}

// TransparentProxy tells which connections are redirected to the proxy, and to
// which of its ports. Port 0 means that there is no such redirection.
type TransparentProxy struct {
	InboundPort  uint32
	OutboundPort uint32
	IPv4Only     bool
}

// Ports of redirection that agents use unless told otherwise.
const (
	DefaultInboundPort  = 15006
	DefaultOutboundPort = 15001
)

func (i *ProxyInfo) has(feature string) bool { return slices.Contains(i.Features, feature) }

// redirection is how connections reach this proxy: the agent's word, else the
// Dataplane's. Nil: they are not redirected.
func (i *ProxyInfo) redirection(n *kind.Networking) *TransparentProxy {
	tp := i.TransparentProxy
	if tp == nil {
		d := n.GetTransparentProxying()
		if d == nil {
			return nil
		}
		tp = &TransparentProxy{
			InboundPort:  d.GetRedirectPortInbound(),
			OutboundPort: d.GetRedirectPortOutbound(),
			IPv4Only:     d.GetIpFamilyMode() == ipv4Only,
		}
	}
	if tp.InboundPort == 0 && tp.OutboundPort == 0 {
		return nil
	}
	if tp.IPv4Only && isIPv6(n.GetAddress()) {
		return nil
	}
	return tp
}

func isIPv6(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && a.Is6() && !a.Is4In6()
}

func isIP(address string) bool {
	_, err := netip.ParseAddr(address)
	return err == nil
}

func isLoopback(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && a.Unmap().IsLoopback()
}

// internalCIDRs are the ranges whose addresses count as internal to HTTP
// filters: those that are set, without IPv6 where the host has none, and at
// least the loopback ones.
func internalCIDRs(set []string, ipv6 bool) []string {
	var out []string
	keep := func(ranges []string) {
		for _, s := range ranges {
			if p, err := netip.ParsePrefix(s); err == nil && (ipv6 || p.Addr().Is4()) {
				out = append(out, s)
			}
		}
	}
	keep(set)
	if len(out) == 0 {
		keep([]string{"127.0.0.1/32", "::1/128"})
	}
	return out
}
