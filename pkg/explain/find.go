package explain

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// caller finds the proxy that calls and compiles for it.
func (w *walk) caller() bool {
	if w.dp = w.findCaller(); w.dp == nil {
		w.add("caller", Broken, "there is no Dataplane, nor a service with proxies in this zone, that is called %q in mesh %q", w.q.From, w.q.Mesh).
			fix("list them with `atollctl get dataplanes -m %s`", w.q.Mesh)
		return false
	}
	insight := w.insight(w.dp.ID)
	w.info = w.in.Info(w.dp.ID, insight)
	result, err := compile.Build(w.in.Compile, w.s, w.info)
	if err != nil {
		w.add("caller", Broken, "nothing can be compiled for it: %s", err).fix("report it")
		return false
	}
	w.result = result
	w.ids = identity.NewMesh(w.in.Compile.Site, w.s, w.q.Mesh)
	if !kind.DataplaneOnline(insight) {
		w.add("caller", Warning, "Dataplane %s has no connected proxy; this is what one would be given", w.dp.Name).
			fix("start its atoll-dp, or look at its log")
		return true
	}
	w.add("caller", OK, "Dataplane %s, whose proxy is connected", w.dp.Name)
	return true
}

// findCaller looks for a Dataplane by its name, its display name, the part behind
// the name of its service or mesh, and then for a service.
func (w *walk) findCaller() *resource.Object {
	get := func(name string) *resource.Object {
		if o := w.s.Get(resource.ID{Type: kind.Dataplane, Mesh: w.q.Mesh, Name: name}); o != nil && w.in.Sees(o) {
			return o
		}
		for o := range w.s.List(kind.Dataplane, w.q.Mesh) {
			if o.DisplayName() == name && w.in.Sees(o) {
				return o
			}
		}
		return nil
	}
	if o := get(w.q.From); o != nil {
		return o
	}
	if _, name, ok := strings.Cut(w.q.From, "."); ok {
		if o := get(name); o != nil {
			return o
		}
	}
	d := w.byName(w.q.From)
	if d == nil {
		return nil
	}
	var first *resource.Object
	for id := range w.s.Topology().Members(d.ID) {
		o := w.s.Get(id)
		if o == nil || !w.in.Sees(o) {
			continue
		}
		if first == nil || !kind.DataplaneOnline(w.insight(first.ID)) && kind.DataplaneOnline(w.insight(id)) {
			first = o
		}
	}
	return first
}

// destination finds out what is called.
func (w *walk) destination() bool {
	host, port := split(w.q.To)
	how := ""
	if k, err := resource.ParseKRI(w.q.To); err == nil {
		if o := w.s.ByKRI(k); o != nil {
			w.dest, port, how = w.seen(w.s.Topology().Destination(o.ID)), k.Section, "by its KRI"
		}
	}
	if w.dest == nil {
		w.dest, how = w.byAddress(host, &port)
	}
	if w.dest == nil {
		if w.dest = w.byName(host); w.dest != nil {
			how = "by its name"
		}
	}
	if w.dest == nil && w.isOutside(host) {
		w.outside(host, port)
		return false
	}
	if w.dest == nil {
		w.add("name", Broken, "nothing in mesh %q has the hostname, the virtual address or the name %q", w.q.Mesh, host).
			fix("list what there is with `atollctl inspect services -m %s -o wide`; hostnames come from HostnameGenerators, and a host outside the mesh needs a MeshExternalService or passthrough", w.q.Mesh)
		return false
	}
	if !w.choosePort(port) {
		return false
	}
	w.name = w.dest.KRI.WithSection(w.port.Section).String()
	st := w.add("name", OK, "%s %s port %d (%s), %s", w.dest.ID.Type, w.dest.ID.Name, w.port.Number, w.port.Protocol, how)
	for _, h := range w.dest.Hostnames {
		st.detail("hostname %s", h)
	}
	return true
}

func (w *walk) choosePort(port string) bool {
	var names []string
	for _, p := range w.dest.Ports {
		if port == p.Section || port == strconv.Itoa(int(p.Number)) || port == "" && len(w.dest.Ports) == 1 {
			w.port = p
			return true
		}
		names = append(names, fmt.Sprint(p.Number))
	}
	what := "no port " + port
	if port == "" {
		what = "several ports"
	}
	w.add("name", Broken, "%s %s has %s; its ports are %s", w.dest.ID.Type, w.dest.ID.Name, what, strings.Join(names, ", ")).
		fix("call one of its ports, or add the port to the %s", w.dest.ID.Type)
	return false
}

// split takes a URL, a host with port or a host.
func split(to string) (host, port string) {
	if scheme, rest, ok := strings.Cut(to, "://"); ok {
		to = rest
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	to, _, _ = strings.Cut(to, "/")
	if h, p, err := net.SplitHostPort(to); err == nil {
		return h, p
	}
	return to, port
}

// byAddress finds a destination by a hostname, a virtual address, or an address
// at which the proxy listens for it, in which case it sets the port.
func (w *walk) byAddress(host string, port *string) (*topology.Destination, string) {
	for _, l := range w.result.Shared.Listeners {
		here := func(address string, number uint32) bool {
			return *port == strconv.Itoa(int(number)) && (address == host || host == "" || host == "localhost" && address == "127.0.0.1")
		}
		found := here(l.Address, l.Port)
		for _, a := range l.Also {
			found = found || here(a.Address, a.Port)
		}
		k, err := resource.ParseKRI(l.Name)
		if !found || err != nil {
			continue
		}
		if o := w.s.ByKRI(k); o != nil {
			if d := w.seen(w.s.Topology().Destination(o.ID)); d != nil {
				*port = k.Section
				return d, "by the address of the proxy's listener"
			}
		}
	}
	for d := range w.s.Topology().Destinations(w.q.Mesh) {
		switch {
		case w.seen(d) == nil:
		case slices.Contains(d.Hostnames, strings.TrimSuffix(strings.ToLower(host), ".")):
			return d, "by its hostname"
		case slices.Contains(d.VIPs, host):
			return d, "by its virtual address"
		}
	}
	return nil, ""
}

// byName prefers what is local.
func (w *walk) byName(name string) *topology.Destination {
	var best *topology.Destination
	for d := range w.s.Topology().Destinations(w.q.Mesh) {
		if d.ID.Name != name && d.KRI.Name != name || w.seen(d) == nil {
			continue
		}
		if best == nil || d.Local && !best.Local {
			best = d
		}
	}
	return best
}

// seen is d if whoever asks may read it.
func (w *walk) seen(d *topology.Destination) *topology.Destination {
	if d == nil {
		return nil
	}
	if o := w.s.Get(d.ID); o == nil || !w.in.Sees(o) {
		return nil
	}
	return d
}
