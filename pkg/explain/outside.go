package explain

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// reserved is where virtual addresses come from; nothing outside has such one.
var reserved = netip.MustParsePrefix("240.0.0.0/4")

// isOutside tells whether a host that the mesh does not know may be one outside of
// it: an address, or a name with a dot that no HostnameGenerator could make.
func (w *walk) isOutside(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return !reserved.Contains(a.Unmap())
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if !strings.Contains(host, ".") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".mesh") {
		return false
	}
	for d := range w.s.Topology().Destinations(w.q.Mesh) {
		for _, h := range d.Hostnames {
			if _, domain, ok := strings.Cut(h, "."); ok && strings.HasSuffix(host, "."+domain) {
				return false
			}
		}
	}
	for o := range w.s.List(kind.HostnameGenerator, "") {
		g := resource.SpecOf[kind.HostnameGeneratorSpec](o)
		if end := strings.LastIndex(g.Template, "}}"); end >= 0 && len(g.Template) > end+2 && strings.HasSuffix(host, g.Template[end+2:]) {
			return false
		}
	}
	return true
}

// passthrough is what MeshPassthrough says, in the JSON that inspection shows.
type passthrough struct {
	Mode  string `json:"passthroughMode"`
	Match []struct {
		Type, Value, Protocol string
		Port                  int
	} `json:"appendMatch"`
}

// outside is the way of what the mesh does not know: it is as MeshPassthrough says.
func (w *walk) outside(host, port string) {
	w.add("name", Warning, "nothing in mesh %q has the hostname or the virtual address %q: it is taken for a host outside", w.q.Mesh, host).
		fix("if it should be in the mesh, see `atollctl inspect services -m %s -o wide`; a MeshExternalService makes it a part of it", w.q.Mesh)
	redirected := kind.NetworkingOf(w.dp).GetTransparentProxying() != nil || w.info.TransparentProxy != nil
	if !redirected || slices.Contains(w.info.Features, compile.FeatureBindOutbounds) {
		w.add("passthrough", Unknown, "the proxy is given only what is in networking.outbound of the Dataplane; connections to elsewhere go past it")
		return
	}
	mode, p, applied := "All", passthrough{}, []policy.Applied(nil)
	for _, a := range w.result.Matched.ProxyPolicies() {
		if a.Type != "MeshPassthrough" {
			continue
		}
		if b, err := json.Marshal(a.Conf); err == nil && json.Unmarshal(b, &p) == nil {
			if mode = p.Mode; mode == "" {
				mode = "Matched"
			}
			applied = append(applied, a)
		}
	}
	st := Step{Name: "passthrough", State: OK}
	where := host
	if port != "" {
		where += ":" + port
	}
	switch mode {
	case "All":
		st.Text = "connections to outside the mesh pass as they are"
	case "None":
		st.State, st.Text = Broken, "nothing passes to outside the mesh"
		st.fix("set passthroughMode Matched with %s in appendMatch, or All, in the MeshPassthrough; or make a MeshExternalService", where)
	default:
		yes, maybe := p.allows(host, port)
		switch {
		case yes != "":
			st.Text = yes + " lets it pass"
		case maybe != "":
			st.State, st.Text = Unknown, fmt.Sprintf("it passes if %s is an address of it", maybe)
		default:
			st.State, st.Text = Broken, "what it lets pass has no entry for "+where
			st.fix("add %s to appendMatch of the MeshPassthrough; or make a MeshExternalService", where)
		}
	}
	w.because(&st, applied)
	w.steps = append(w.steps, st)
}

// allows finds an entry for a host, or for a name one that may have its address.
func (p *passthrough) allows(host, port string) (yes, maybe string) {
	address, err := netip.ParseAddr(host)
	isAddress := err == nil
	for _, m := range p.Match {
		if m.Port != 0 && port != "" && fmt.Sprint(m.Port) != port {
			continue
		}
		what := strings.TrimSpace(m.Type + " " + m.Value)
		if m.Type == "Domain" {
			domain, wild := strings.CutPrefix(strings.ToLower(m.Value), "*")
			if !isAddress && (strings.EqualFold(host, m.Value) || wild && strings.HasSuffix(strings.ToLower(host), domain)) {
				return what, ""
			}
			continue
		}
		if !isAddress {
			maybe = what
			continue
		}
		prefix, err := netip.ParsePrefix(m.Value)
		if one, e := netip.ParseAddr(m.Value); e == nil {
			prefix, err = netip.PrefixFrom(one, one.BitLen()), nil
		}
		if err == nil && prefix.Contains(address) {
			return what, ""
		}
	}
	return "", maybe
}
