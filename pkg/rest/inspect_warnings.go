package rest

import (
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const meshPassthrough resource.Type = "MeshPassthrough"

// warnings files what policies that select the proxy are warned about, those too
// that say nothing for it and so have no rules.
func (p *inspected) warnings(rule func(resource.Type) *inspectRule) {
	for o := range p.All() {
		for _, text := range warnings(o) {
			r := rule(o.Type)
			r.Warnings = append(r.Warnings, o.DisplayName()+": "+text)
		}
		if o.Type == meshPassthrough && !p.redirected() {
			r := rule(o.Type)
			r.Warnings = append(r.Warnings, o.DisplayName()+": it has no effect, because the connections of this proxy's workload are not redirected to it (transparent proxying)")
		}
	}
}

// redirected tells whether a transparent proxy is known of: the Dataplane has it,
// or else what its agent said when it connected.
func (p *inspected) redirected() bool {
	if kind.NetworkingOf(p.dp).GetTransparentProxying() != nil {
		return true
	}
	insight := insightOf(p.s, p.dp)
	if insight == nil {
		return false
	}
	if p.api.ProxyInfo != nil {
		return p.api.ProxyInfo(p.dp.ID, insight).TransparentProxy != nil
	}
	// At a global the document of the agent is all there is.
	return insight.GetMetadata().GetFields()["transparentProxy"].GetStructValue() != nil
}
