package compile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Effect is what some proxies would be given otherwise, all of them the same.
type Effect struct {
	Proxies []resource.ID // in order
	Changes []Change
}

// Change is one resource of Envoy's that would come, go or differ.
type Change struct {
	Type          xds.Type
	Name          string
	Before, After *delta.Resource // nil: not there
}

// Text is the resource before and after as JSON in lines, empty where there is
// none, with secrets blanked.
func (c Change) Text() (before, after []byte) {
	text := func(r *delta.Resource) []byte {
		if r == nil {
			return nil
		}
		b, err := JSON(r)
		if err != nil {
			return []byte(err.Error() + "\n")
		}
		var out bytes.Buffer
		if err := json.Indent(&out, b, "", "  "); err != nil {
			return []byte(err.Error() + "\n")
		}
		return append(out.Bytes(), '\n')
	}
	return text(c.Before), text(c.After)
}

// Effects compares what proxies are given by two snapshots that differ in
// policies only: who is not in the result has the same. Those to whom most
// happens come first. It compiles what several proxies have in common once.
func Effects(in Inputs, before, after *view.Snapshot, proxies []ProxyInfo) []Effect {
	sides := [2]*beforeOrAfter{newSide(&in, before), newSide(&in, after)}
	shared := map[[2]audienceKey][]Change{}
	groups := map[string]*Effect{}
	for i := range proxies {
		info := &proxies[i]
		var w warnings
		w.guard("proxy", func() {
			changes := compareProxy(sides, info, shared)
			if len(changes) == 0 {
				return
			}
			key := changesKey(changes)
			if groups[key] == nil {
				groups[key] = &Effect{Changes: changes}
			}
			groups[key].Proxies = append(groups[key].Proxies, info.ID)
		})
	}
	var out []Effect
	for _, g := range groups {
		slices.SortFunc(g.Proxies, resource.ID.Compare)
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Effect) int {
		return cmp.Or(-cmp.Compare(len(a.Changes), len(b.Changes)), a.Proxies[0].Compare(b.Proxies[0]))
	})
	return out
}

// beforeOrAfter is one of the two snapshots.
type beforeOrAfter struct {
	in        *Inputs
	s         *view.Snapshot
	indexes   map[string]*policy.Index
	outbounds map[outboundKey]*outboundUnit
	clusters  map[clusterKey]*clusterUnit
	loads     map[rowKey]*delta.Resource
}

func newSide(in *Inputs, s *view.Snapshot) *beforeOrAfter {
	return &beforeOrAfter{
		in: in, s: s, indexes: map[string]*policy.Index{},
		outbounds: map[outboundKey]*outboundUnit{}, clusters: map[clusterKey]*clusterUnit{}, loads: map[rowKey]*delta.Resource{},
	}
}

func (d *beforeOrAfter) proxy(info *ProxyInfo) (*single, error) {
	mesh := info.ID.Mesh
	if d.indexes[mesh] == nil {
		d.indexes[mesh] = newIndex(d.in.Policies, view.NewReader(d.s), mesh)
	}
	return newSingle(d.in, d.s, info, d.indexes[mesh])
}

func compareProxy(sides [2]*beforeOrAfter, info *ProxyInfo, shared map[[2]audienceKey][]Change) []Change {
	var x [2]*single
	var keys [2]audienceKey
	for i, d := range sides {
		var err error
		if x[i], err = d.proxy(info); err != nil {
			return nil
		}
		keys[i] = x[i].audience()
	}
	var out []Change
	if keys[0] != keys[1] {
		known, ok := shared[keys]
		if !ok {
			known = compare(sides[0].layer(x[0]), sides[1].layer(x[1]))
			shared[keys] = known
		}
		out = slices.Clone(known)
	}
	if x[0].matched.InboundDigest() != x[1].matched.InboundDigest() {
		var own [2]xds.Changes
		for i := range x {
			own[i] = envoy.Resources(x[i].own(x[i].matched).build())
		}
		out = append(out, compare(own[0], own[1])...)
	}
	return out
}

// audience is the key by which the engine would share the layer of a proxy.
func (x *single) audience() audienceKey {
	k := audienceKey{mesh: x.info.ID.Mesh, policies: x.matched.OutboundDigest(), shape: x.shape.digest()}
	if len(x.shape.Gates) > 0 {
		k.rules = x.matched.InboundDigest()
	}
	_, k.tls = x.sec.audienceTLS(x.matched.ClientTLS(), len(x.shape.Gates) > 0, nil)
	return k
}

// layer makes what the audience of a proxy shares.
func (d *beforeOrAfter) layer(x *single) xds.Changes {
	p, c := x.plan(x.matched), xds.Changes{}
	for i, k := range p.keys {
		if d.outbounds[k] == nil {
			d.outbounds[k] = p.build(i)
		}
		u := d.outbounds[k]
		p.units[i] = u
		if u.listener == nil || u.removed {
			continue
		}
		c.Put(xds.Listeners, u.listener)
		for _, r := range u.routes {
			c.Put(xds.Routes, r)
		}
	}
	p.collectClusters()
	for i, k := range p.clusterKeys {
		if d.clusters[k] == nil {
			d.clusters[k], _ = p.buildCluster(i)
		}
		u := d.clusters[k]
		if u.cluster == nil || u.removed {
			continue
		}
		c.Put(xds.Clusters, u.cluster)
		row := p.rows[i]
		if row.side == asEgress {
			continue
		}
		if d.loads[row] == nil {
			d.loads[row] = envoy.Load(buildLoad(row.cluster, d.in.Site.Zone, p.placements[i], row.read(x.r)))
		}
		c.Put(xds.Endpoints, d.loads[row])
	}
	return c
}

// compare lists what differs, by type and name.
func compare(before, after xds.Changes) []Change {
	var out []Change
	for t := range xds.NumTypes {
		names := map[string]bool{}
		for name := range before[t] {
			names[name] = true
		}
		for name := range after[t] {
			names[name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			a, b := before[t][name], after[t][name]
			if a == nil || b == nil || a.Version != b.Version {
				out = append(out, Change{t, name, a, b})
			}
		}
	}
	return out
}

func changesKey(list []Change) string {
	var b strings.Builder
	version := func(r *delta.Resource) string {
		if r == nil {
			return "-"
		}
		return r.Version
	}
	for _, c := range list {
		b.WriteString(c.Type.String() + " " + c.Name + " " + version(c.Before) + " " + version(c.After) + "\n")
	}
	return b.String()
}
