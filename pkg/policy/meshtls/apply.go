package meshtls

import (
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// protocol is what proxies offer each other, by which a permissive inbound knows
// mutual TLS from TLS that is the workload's own.
const protocol = "kuma"

// inbound has every chain ask for mutual TLS, if the proxy has an identity. A
// permissive inbound also takes connections without it, as they are.
func inbound(rules policy.InboundRules[Conf], in *policy.Inbound) {
	if in.TLS == nil || in.ZoneProxy {
		return
	}
	c, _ := rules.CatchAll()
	tls := *in.TLS
	c.params(&tls.Params)
	var chains []*ir.Chain
	for _, plain := range in.Listener.Chains {
		mutual := *plain
		mutual.TLS = &tls
		if c.Mode == nil || *c.Mode != Permissive {
			chains = append(chains, &mutual)
			continue
		}
		// What other policies write into one chain is not for the others.
		raw, own := separate(plain), separate(plain)
		raw.Match = ir.ChainMatch{TransportProtocol: "raw_buffer"}
		own.Match = ir.ChainMatch{TransportProtocol: "tls"}
		mutual.Match = ir.ChainMatch{TransportProtocol: "tls", ApplicationProtocols: []string{protocol}}
		chains = append(chains, raw, own, &mutual)
	}
	in.Listener.Chains = chains
}

func separate(c *ir.Chain) *ir.Chain {
	out := *c
	if c.HTTP != nil {
		h := *c.HTTP
		out.HTTP = &h
	}
	if c.TCP != nil {
		t := *c.TCP
		out.TCP = &t
	}
	return &out
}

func (c Conf) params(p *ir.TLSParams) {
	if v := c.TLSVersion; v != nil {
		p.MinVersion, p.MaxVersion = specific(v.Min), specific(v.Max)
	}
	p.Ciphers = nil
	for _, name := range c.TLSCiphers {
		p.Ciphers = append(p.Ciphers, string(name))
	}
	forOurKeys(p)
	forOldVersions(p)
}

// forOurKeys adds to each cipher for RSA certificates the same one for ECDSA
// certificates, which those of a mesh are: a list with none would let nobody
// connect. Those for RSA stay for certificates that SPIRE issues.
func forOurKeys(p *ir.TLSParams) {
	listed := p.Ciphers
	for _, name := range listed {
		if rest, ok := strings.CutPrefix(name, "ECDHE-RSA-"); ok && !slices.Contains(p.Ciphers, "ECDHE-ECDSA-"+rest) {
			p.Ciphers = append(p.Ciphers, "ECDHE-ECDSA-"+rest)
		}
	}
}

// What Envoy takes by itself has nothing for versions before TLS 1.2, and begins
// with that.
var (
	usualCiphers = []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256",
		"ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	}
	oldCiphers = []string{
		"ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA",
	}
)

// forOldVersions makes versions before TLS 1.2 work where they are asked for. A
// maximum without a minimum is both.
func forOldVersions(p *ir.TLSParams) {
	old := func(version string) bool { i, _ := rank(version); return i >= 0 && i < slices.Index(versions, "TLS12") }
	if old(p.MaxVersion) && p.MinVersion == "" {
		p.MinVersion = p.MaxVersion
	}
	switch {
	case !old(p.MinVersion):
	case len(p.Ciphers) == 0:
		p.Ciphers = slices.Concat(usualCiphers, oldCiphers)
	case old(p.MaxVersion): // what was listed is for TLS 1.2
		p.Ciphers = slices.Concat(p.Ciphers, oldCiphers)
	}
}

func specific(version string) string {
	if version == auto {
		return ""
	}
	return version
}

// client has the proxy speak as a client what it asks of its own. Envoy as a
// client goes up to TLS 1.2 by itself, which must not be below the minimum.
func client(c Conf, p *ir.TLSParams) {
	c.params(p)
	if newest := versions[len(versions)-1]; p.MinVersion == newest && p.MaxVersion == "" {
		p.MaxVersion = newest
	}
}
