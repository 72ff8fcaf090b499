// Package envoy turns the IR into Envoy's messages. It is the only place that
// knows them. Everything here is a pure function: equal IR gives equal bytes,
// and no input that compilation or a policy can produce makes it fail.
package envoy

import (
	"encoding/base64"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Listener encodes a listener as the resource of that name.
func Listener(l *ir.Listener) *delta.Resource {
	m, _ := patchedListener(l)
	r := encode(l.Name, xds.Listeners, m)
	r.Refers = listenerRefers(l)
	return r
}

// Route encodes a route configuration as the resource of that name.
func Route(c *ir.RouteConfig) *delta.Resource {
	m, _ := patchedRoutes(c)
	r := encode(c.Name, xds.Routes, m)
	r.Refers = routeRefers(c)
	return r
}

// Cluster encodes a cluster as the resource of that name.
func Cluster(c *ir.Cluster) *delta.Resource {
	m, _ := patchedCluster(c)
	return encode(c.Name, xds.Clusters, m)
}

// Load encodes the endpoints of a cluster as the resource of its name.
func Load(l *ir.ClusterLoad) *delta.Resource { return encode(l.Cluster, xds.Endpoints, load(l)) }

// Resources encodes all of a layer, ready for xds.NewLayer. Of resources with
// the same name the last counts.
func Resources(c *ir.Config) xds.Changes {
	out := xds.Changes{}
	for _, l := range c.Listeners {
		if l.Removed {
			continue
		}
		out.Put(xds.Listeners, Listener(l))
	}
	for _, r := range c.Routes {
		out.Put(xds.Routes, Route(r))
	}
	for _, x := range c.Clusters {
		if x.Removed {
			continue
		}
		out.Put(xds.Clusters, Cluster(x))
	}
	for _, l := range c.Loads {
		out.Put(xds.Endpoints, Load(l))
	}
	for _, s := range c.Secrets {
		out.Put(xds.Secrets, Secret(s))
	}
	for _, p := range c.Added {
		m, err := added(p)
		if err != nil {
			continue
		}
		t := xds.Clusters
		if p.Target == ir.PatchListener {
			t = xds.Listeners
		}
		out.Put(t, encode(m.(interface{ GetName() string }).GetName(), t, m))
	}
	for _, s := range c.Secrets {
		out.Put(xds.Secrets, Secret(s))
	}
	return out
}

// encode makes the resource of m, whose version is a 128-bit hash of its bytes.
func encode(name string, t xds.Type, m proto.Message) *delta.Resource {
	b := marshal(m)
	sum := xxh3.Hash128(b).Bytes()
	return delta.NewResource(name, base64.RawURLEncoding.EncodeToString(sum[:]), t.URL(), b)
}

// marshal gives the same bytes for the same message, within one build of Atoll.
// Messages made here hold valid UTF-8 and no required fields, which are the only
// reasons for which encoding could fail.
func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("encode " + string(m.ProtoReflect().Descriptor().FullName()) + ": " + err.Error())
	}
	return b
}

func pack(m proto.Message) *anypb.Any {
	return &anypb.Any{
		TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()),
		Value:   marshal(m),
	}
}

func duration(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}

func socketAddress(address string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       address,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func pipe(path string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
}

// fromADS says that a resource comes on the stream that named it.
func fromADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
}

// StatPrefix is the form of a name that Envoy can use in the names of its
// statistics: every character but letters, digits, _ and - becomes _.
func StatPrefix(name string) string {
	for i := range len(name) {
		if !statChar(name[i]) {
			b := []byte(name)
			for ; i < len(b); i++ {
				if !statChar(b[i]) {
					b[i] = '_'
				}
			}
			return string(b)
		}
	}
	return name
}

func statChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// listenerRefers names the clusters that a listener refers to; nil: not known.
func listenerRefers(l *ir.Listener) []string {
	if len(l.Patches) > 0 {
		return nil
	}
	out := []string{}
	for _, c := range l.Chains {
		switch {
		case c.TLS != nil:
			return nil // secrets, perhaps of an agent behind a cluster
		case c.HTTP != nil:
			if c.HTTP.RouteConfig == "" || c.HTTP.Tracing != nil || anyOTLP(c.HTTP.Logs) {
				return nil
			}
		case c.TCP != nil:
			if anyOTLP(c.TCP.Logs) {
				return nil
			}
			out = appendRefs(out, c.TCP.Clusters)
		default:
			return nil
		}
	}
	return out
}

// routeRefers is the same for routes.
func routeRefers(c *ir.RouteConfig) []string {
	if len(c.Patches) > 0 {
		return nil
	}
	out := []string{}
	for _, r := range c.Routes {
		if r.Forward == nil {
			continue
		}
		out = appendRefs(out, r.Forward.Clusters)
		for _, m := range r.Forward.Mirrors {
			out = append(out, m.Cluster)
		}
	}
	return out
}

func appendRefs(out []string, list []ir.WeightedRef) []string {
	for _, w := range list {
		if !slices.Contains(out, w.Cluster) {
			out = append(out, w.Cluster)
		}
	}
	return out
}

func anyOTLP(logs []ir.AccessLog) bool {
	return slices.ContainsFunc(logs, func(l ir.AccessLog) bool { return l.OTLP != nil })
}
