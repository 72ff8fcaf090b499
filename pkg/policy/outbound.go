package policy

import (
	"slices"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Outbound is the configuration of clients of one port of a destination. The
// caller sets Dest and Listener, with everything but chains; Outbound fills in
// the rest.
type Outbound struct {
	Dest     Dest
	Listener *ir.Listener
	// Routes is set for HTTP: the configuration that Listener refers to, named
	// as the destination.
	Routes *ir.RouteConfig
	// Client holds the labels of the clients that a policy with Everywhere named
	// in Labels, as far as they have them.
	Client map[string]string
	// Backends is every destination that the listener or the routes send to, in
	// order of first use: the clusters that must exist.
	Backends []Dest
	// Routed tells that a route policy for HTTP applies.
	Routed bool

	rules  *OutboundRules
	known  map[string]Dest         // by cluster name
	owners map[string]resource.KRI // by route name
}

// HTTP reports whether the destination speaks HTTP.
func (o *Outbound) HTTP() bool { return ir.IsHTTP(o.Dest.Port.Protocol) }

// Backend resolves a reference of the policy owner and returns the
// destination, whose Name is the cluster to send to.
func (o *Outbound) Backend(ref BackendRef, owner *resource.Object) (d Dest, ok bool) {
	d, ok = ResolveBackend(o.rules.res, ref, owner)
	if ok {
		o.known[d.Name()] = d
	}
	return d, ok
}

// Own tells that routes of that name are of the route policy with that KRI, so
// that policies that name it apply to them.
func (o *Outbound) Own(routeName string, policy resource.KRI) { o.owners[routeName] = policy }

// Reads collects what an outbound depends on besides its confs.
type Reads struct {
	rules  *OutboundRules
	hash   *hash
	looked []Lookup
}

// Backend records that a reference is resolved.
func (r *Reads) Backend(ref BackendRef, owner *resource.Object) {
	d, ok := ResolveBackend(noting{r}, ref, owner)
	if !ok {
		r.hash.text("")
		return
	}
	r.hash.text(d.Name()).text(d.Port.Protocol)
}

// Route records that routes of a policy are made, as Outbound.Own does.
func (r *Reads) Route(policy resource.KRI) {
	r.looked = append(r.looked, Lookup{Route: policy})
	for _, di := range r.rules.to.ix.defs {
		if di.route == nil {
			continue
		}
		entries := r.rules.to.forRoute(di, policy)
		r.hash.number(len(entries))
		for _, e := range entries {
			r.hash.digest(e.digest)
		}
	}
}

// OutboundRules are the matched policies about outbounds, and how to find
// destinations. Methods may be called concurrently if the Resolver allows it.
type OutboundRules struct {
	to     *matchedTo
	res    Resolver
	client map[string]string
}

// BuildOutbound prepares the rules of an audience. It does no work by itself.
func BuildOutbound(m *Matched, res Resolver) *OutboundRules {
	return &OutboundRules{to: m.out, res: res, client: m.client()}
}

// Digest identifies everything that Outbound reads for d: policies, resolved
// backends, d itself. It does not cover the Listener given to Outbound.
func (r *OutboundRules) Digest(d Dest) Digest {
	digest, _ := r.Inputs(d)
	return digest
}

// Inputs returns the Digest and what was looked up for it. The Digest stays the
// same as long as d, the policies about d and what was looked up do.
func (r *OutboundRules) Inputs(d Dest) (Digest, []Lookup) {
	h := new(hash).text(d.Name()).text(d.Port.Protocol)
	reads := &Reads{rules: r, hash: h}
	for _, di := range r.to.ix.defs {
		if di.outbound == nil {
			continue
		}
		entries := r.to.forDest(di, d)
		h.number(di.pos).number(len(entries))
		for _, e := range entries {
			h.digest(e.digest)
		}
		if di.readsClient && len(r.to.entries[di.pos]) > 0 {
			for _, key := range r.to.labels.Client {
				v, ok := r.client[key]
				h.text(v).number(boolRank(ok))
			}
		}
		if di.reads != nil && len(entries) > 0 {
			di.reads(r.to.join(di, entries).conf, reads)
		}
	}
	return h.sum(), reads.looked
}

// ClusterDigest identifies everything that Cluster reads for a backend.
func (r *OutboundRules) ClusterDigest(backend Dest) Digest {
	h := new(hash).text(backend.Name()).text(backend.Port.Protocol)
	for _, di := range r.to.ix.defs {
		if di.cluster == nil {
			continue
		}
		h.number(di.pos)
		for _, e := range r.to.forDest(di, backend) {
			h.digest(e.digest)
		}
	}
	return h.sum()
}

// Outbound fills in the chains of the listener, the routes and the backends.
// Without any policy these send everything to the destination itself.
func (r *OutboundRules) Outbound(o *Outbound) {
	o.rules, o.known, o.owners = r, map[string]Dest{o.Dest.Name(): o.Dest}, map[string]resource.KRI{}
	o.Client = r.client
	o.direct()
	for _, di := range r.to.ix.defs {
		if di.outbound == nil {
			continue
		}
		if conf := r.to.conf(di, o.Dest); conf != nil {
			di.outbound(conf, o)
		}
		if di.route == nil || o.Routes == nil {
			continue
		}
		for _, route := range o.Routes.Routes {
			owner, ok := o.owners[route.Name]
			if !ok {
				continue
			}
			if entries := r.to.forRoute(di, owner); entries != nil {
				di.route(r.to.join(di, entries).conf, o, route)
			}
		}
	}
	o.collectLogs()
	o.collectBackends()
}

// collectLogs moves the logs of routes to the listener, which writes them.
func (o *Outbound) collectLogs() {
	if o.Routes == nil {
		return
	}
	for _, chain := range o.Listener.Chains {
		if chain.HTTP == nil {
			continue
		}
		var names []string
		var logs []ir.AccessLog
		for _, r := range o.Routes.Routes {
			if r.Logs == nil || r.Name == "" || slices.Contains(names, r.Name) {
				continue
			}
			names = append(names, r.Name)
			for _, l := range r.Logs {
				l.Route = r.Name
				logs = append(logs, l)
			}
		}
		if names == nil {
			continue
		}
		for i := range chain.HTTP.Logs {
			chain.HTTP.Logs[i].NotRoutes = names
		}
		chain.HTTP.Logs = append(chain.HTTP.Logs, logs...)
	}
	for _, r := range o.Routes.Routes {
		r.Logs = nil
	}
}

// Cluster writes what policies say about a backend into its cluster. The caller
// has set everything else.
func (r *OutboundRules) Cluster(backend Dest, c *ir.Cluster) {
	for _, di := range r.to.ix.defs {
		if di.cluster == nil {
			continue
		}
		if conf := r.to.conf(di, backend); conf != nil {
			di.cluster(conf, backend, c)
		}
	}
}

// DefaultRoute is the name of the route that takes what no route of a policy
// took: the hash of its match, as everywhere in the API.
const DefaultRoute = "9Zuf5Tg79OuZcQITwBbQykxAk2u4fRKrwYn3//AL4Yo="

// Direct is the route to the destination itself, for requests that no other
// route takes.
func (o *Outbound) Direct() *ir.Route {
	return &ir.Route{
		Name:  DefaultRoute,
		Match: ir.RouteMatch{Prefix: "/"},
		Forward: &ir.Forward{
			Clusters:        []ir.WeightedRef{{Cluster: o.Dest.Name(), Weight: 1}},
			AutoHostRewrite: o.Dest.Kind == MeshExternalService,
		},
	}
}

// direct makes the chain that policies start from.
func (o *Outbound) direct() {
	name := o.Dest.Name()
	if !o.HTTP() {
		o.Listener.Chains = []*ir.Chain{{TCP: &ir.TCPProxy{
			StatPrefix: name, Clusters: []ir.WeightedRef{{Cluster: name, Weight: 1}},
		}}}
		return
	}
	o.Listener.Chains = []*ir.Chain{{HTTP: &ir.HTTP{
		StatPrefix: name, RouteConfig: name, NormalizePath: true,
		GRPCStats: o.Dest.Port.Protocol == ir.GRPC,
	}}}
	o.Routes = &ir.RouteConfig{Name: name, VirtualHost: name, Routes: []*ir.Route{o.Direct()}}
}

// collectBackends looks at the finished result, so that nothing a later policy
// replaced leaves a cluster behind.
func (o *Outbound) collectBackends() {
	o.Backends = nil
	seen := map[string]bool{}
	use := func(cluster string) {
		if d, ok := o.known[cluster]; ok && !seen[cluster] {
			seen[cluster] = true
			o.Backends = append(o.Backends, d)
		}
	}
	for _, c := range o.Listener.Chains {
		if c.TCP != nil {
			for _, w := range c.TCP.Clusters {
				use(w.Cluster)
			}
		}
	}
	if o.Routes == nil {
		return
	}
	for _, r := range o.Routes.Routes {
		if r.Forward == nil {
			continue
		}
		for _, w := range r.Forward.Clusters {
			use(w.Cluster)
		}
		for _, m := range r.Forward.Mirrors {
			use(m.Cluster)
		}
	}
}

// matchedTo is the items of spec.to of the policies of one set. All proxies
// that the same policies select share it.
type matchedTo struct {
	ix      *Index
	entries [][]*toEntry // per def, ascending
	labels  Labels       // of all entries
	digest  Digest
	joined  sync.Map // per def and list of entries → *merged
}

func (ix *Index) outbound(s set) *matchedTo {
	only := newSet(ix.bits) // other policies must not tell proxies apart
	for i := range only {
		only[i] = s[i] & ix.outs[i]
	}
	if m, ok := ix.outbounds.Load(string(only)); ok {
		return m.(*matchedTo)
	}
	m := &matchedTo{ix: ix, entries: make([][]*toEntry, len(ix.defs))}
	h := new(hash)
	for i, di := range ix.defs {
		for _, e := range di.to {
			if only.has(e.p.bit) {
				m.entries[i] = append(m.entries[i], e)
				h.digest(e.digest)
			}
		}
	}
	m.digest = h.sum()
	m.collectLabels()
	got, _ := ix.outbounds.LoadOrStore(string(only), m)
	return got.(*matchedTo)
}

// forDest returns the entries that are about a port of a destination, in order
// of precedence: those of the mesh, of the whole destination, of the port.
func (m *matchedTo) forDest(di *defIndex, d Dest) []*toEntry {
	var out []*toEntry
	for _, e := range m.entries[di.pos] {
		if e.ref.Kind == Mesh || e.ref.Kind == d.Kind &&
			(e.ref.SectionName == "" || e.ref.SectionName == d.Port.Section) && d.Matches(e.ref.Labels) {
			out = append(out, e)
		}
	}
	return out
}

// forRoute returns the entries that are about routes of a policy, or nil when
// none names it: those of the mesh and those of the route. What is said about
// services is not inherited.
func (m *matchedTo) forRoute(di *defIndex, route resource.KRI) []*toEntry {
	var out []*toEntry
	named := false
	for _, e := range m.entries[di.pos] {
		if e.ref.Kind == Mesh {
			out = append(out, e)
		} else if e.ref.Kind == MeshHTTPRoute && slices.Contains(e.routes, route) {
			named = true
			out = append(out, e)
		}
	}
	if !named {
		return nil
	}
	return out
}

// conf is the merged conf for a destination; the zero conf or nil without any.
func (m *matchedTo) conf(di *defIndex, d Dest) any {
	if entries := m.forDest(di, d); len(entries) > 0 {
		return m.join(di, entries).conf
	}
	if di.always {
		return di.zero
	}
	return nil
}

// join merges entries once per list.
func (m *matchedTo) join(di *defIndex, entries []*toEntry) *merged {
	key := make([]byte, 0, 16*(len(entries)+1))
	key = append(key, byte(di.pos))
	for _, e := range entries {
		key = append(key, e.digest[:]...)
	}
	if got, ok := m.joined.Load(string(key)); ok {
		return got.(*merged)
	}
	items := make([]item, len(entries))
	for i, e := range entries {
		items[i] = item{conf: e.conf, Origin: Origin{Policy: e.p.obj, Index: e.index}}
	}
	got, _ := m.joined.LoadOrStore(string(key), di.join(items))
	return got.(*merged)
}
