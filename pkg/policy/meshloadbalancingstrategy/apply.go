package meshloadbalancingstrategy

import (
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// outbound writes what of a request or connection decides about its endpoint.
func outbound(c Conf, o *policy.Outbound) {
	hashes := c.hashes()
	for _, chain := range o.Listener.Chains {
		if chain.TCP != nil {
			chain.TCP.Hash = ofConnection(hashes)
		}
	}
	if o.Routes == nil {
		return
	}
	for _, r := range o.Routes.Routes {
		if r.Forward != nil {
			r.Forward.Hash = hashes
		}
	}
}

func route(c Conf, _ policy.Dest, r *ir.Route) {
	if r.Forward != nil {
		r.Forward.Hash = c.hashes()
	}
}

func (c Conf) hashes() []ir.Hash {
	var out []ir.Hash
	for _, p := range c.HashPolicies {
		if h, ok := p.hash(); ok {
			h.Terminal = p.Terminal != nil && *p.Terminal
			out = append(out, h)
		}
	}
	return out
}

func (p HashPolicy) hash() (h ir.Hash, ok bool) {
	switch {
	case p.Type == Header && p.Header != nil:
		h.Header = p.Header.Name
	case p.Type == Cookie && p.Cookie != nil:
		h.Cookie = &ir.Cookie{Name: p.Cookie.Name, TTL: p.Cookie.TTL.Get()}
		if p.Cookie.Path != nil {
			h.Cookie.Path = *p.Cookie.Path
		}
	case p.Type == Connection && p.Connection != nil:
		h.SourceIP = p.Connection.SourceIP != nil && *p.Connection.SourceIP
		return h, h.SourceIP
	case p.Type == QueryParameter && p.QueryParameter != nil:
		h.Query = p.QueryParameter.Name
	case p.Type == FilterState && p.FilterState != nil:
		h.State = p.FilterState.Key
	default:
		return h, false
	}
	return h, true
}

// ofConnection is the first that a connection without requests has.
func ofConnection(list []ir.Hash) *ir.Hash {
	for _, h := range list {
		if h.SourceIP || h.State != "" {
			return &ir.Hash{SourceIP: h.SourceIP, State: h.State}
		}
	}
	return nil
}

func cluster(c Conf, backend policy.Dest, cl *ir.Cluster) {
	if c.LoadBalancer != nil {
		cl.Balancer = c.LoadBalancer.balancer()
	}
	if l := c.locality(backend); l != nil && !l.off() {
		cl.LocalityWeighted = len(l.tags()) > 0
	}
}

func (lb *LoadBalancer) balancer() *ir.Balancer {
	b := &ir.Balancer{Kind: lb.Type}
	switch {
	case lb.Type == LeastRequest && lb.LeastRequest != nil:
		b.Choices = lb.LeastRequest.ChoiceCount
		if bias := lb.LeastRequest.ActiveRequestBias; bias != nil {
			if v, ok := bias.Float(); ok {
				b.Bias = &v
			}
		}
	case lb.Type == RingHash && lb.RingHash != nil:
		r := lb.RingHash
		b.Murmur = r.HashFunction == "MurmurHash2"
		b.MinRing, b.MaxRing = widen(r.MinRingSize), widen(r.MaxRingSize)
		if b.MaxRing != nil && *b.MaxRing < sizeOr(b.MinRing, defaultMinRing) {
			// Envoy refuses a maximum below the minimum, which others may have set.
			if b.MinRing == nil {
				b.MinRing = b.MaxRing
			} else {
				b.MaxRing = b.MinRing
			}
		}
	case lb.Type == Maglev && lb.Maglev != nil && lb.Maglev.TableSize != nil:
		n := primeFrom(uint64(*lb.Maglev.TableSize))
		b.Table = &n
	}
	return b
}

// defaultMinRing is Envoy's.
const defaultMinRing = 1024

func sizeOr(v *uint64, def uint64) uint64 {
	if v == nil {
		return def
	}
	return *v
}

func widen(v *uint32) *uint64 {
	if v == nil {
		return nil
	}
	w := uint64(*v)
	return &w
}

// primeFrom is the least prime number that is not below n: Maglev's table has no
// other size. The largest size that is allowed is one.
func primeFrom(n uint64) uint64 {
	for n = max(n, 2); !prime(n); n++ {
	}
	return n
}

func prime(n uint64) bool {
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}
