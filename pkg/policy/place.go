package policy

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// Labels are keys of labels that a conf looks at.
type Labels struct {
	Client   []string // of the client's Dataplane
	Endpoint []string
}

// Placing is how the endpoints of one backend are arranged.
type Placing struct {
	Dest Dest
	Zone string // where the clients are
	// Client holds the labels of the clients that a policy named in Labels, as
	// far as they have them.
	Client map[string]string
	*ir.Placement
}

// Place returns how the endpoints of a backend are arranged for clients in a
// zone. Nil is the zero ir.Placement.
func (r *OutboundRules) Place(backend Dest, zone string) *ir.Placement {
	p := &Placing{
		Dest: backend, Zone: zone, Client: r.client,
		Placement: &ir.Placement{Keep: r.to.labels.Endpoint},
	}
	for _, di := range r.to.ix.defs {
		if di.place == nil {
			continue
		}
		if conf := r.to.conf(di, backend); conf != nil {
			di.place(conf, p)
		}
	}
	if !p.Flat && !p.Grouped && len(p.Keep) == 0 {
		return nil // as without policies
	}
	return p.Placement
}

func (m *matchedTo) collectLabels() {
	for _, di := range m.ix.defs {
		if di.labels == nil {
			continue
		}
		for _, e := range m.entries[di.pos] {
			l := di.labels(e.conf)
			m.labels.Client = append(m.labels.Client, l.Client...)
			m.labels.Endpoint = append(m.labels.Endpoint, l.Endpoint...)
		}
	}
	m.labels.Client = unique(m.labels.Client)
	m.labels.Endpoint = unique(m.labels.Endpoint)
}

func unique(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}

// client is the labels of the proxy that its policies look at.
func (m *Matched) client() map[string]string {
	var out map[string]string
	for _, key := range m.out.labels.Client {
		if v, ok := m.proxy.label(key); ok {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = v
		}
	}
	return out
}

// label is what a proxy says of itself.
func (p *Proxy) label(key string) (string, bool) {
	if v, ok := p.Says[key]; ok {
		return v, true
	}
	if v, ok := p.Tags[key]; ok {
		return v, true
	}
	v, ok := p.Meta.Labels[key]
	return v, ok
}
