package policy

import "github.com/atoll-mesh/atoll/pkg/resource"

// Default returns spec.default of the policies of one kind that select the proxy,
// merged, as a pointer to the conf of that kind. Nil: none has any.
func (m *Matched) Default(t resource.Type) any {
	for _, di := range m.ix.defs {
		if di.kind.Type != t {
			continue
		}
		if conf := m.proxyConf(di); conf != nil {
			return conf.conf
		}
	}
	return nil
}
