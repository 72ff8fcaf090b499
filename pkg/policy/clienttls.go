package policy

import "github.com/atoll-mesh/atoll/pkg/ir"

// ClientTLS is what policies about the inbounds of the whole mesh say about the
// TLS that their proxies speak as clients.
func (m *Matched) ClientTLS() ir.TLSParams {
	var out ir.TLSParams
	for _, di := range m.ix.defs {
		if di.clientTLS == nil {
			continue
		}
		var items []item
		for _, e := range di.rules {
			if e.match == nil && e.p.target.Kind == Mesh && m.set.has(e.p.bit) {
				items = append(items, item{conf: e.conf, Origin: e.origin()})
			}
		}
		if len(items) > 0 {
			di.clientTLS(di.join(items).conf, &out)
		}
	}
	return out
}
