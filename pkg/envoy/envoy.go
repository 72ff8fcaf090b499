// Package envoy turns the IR into Envoy's messages. It is the only place that
// knows them. Everything here is a pure function: equal IR gives equal bytes,
// and no input that compilation or a policy can produce makes it fail.
package envoy

import (
	"encoding/base64"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/ir"
)

// Type URLs of the resources that are made here.
const (
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	LoadType     = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// Listener encodes a listener as the resource of that name.
func Listener(l *ir.Listener) *delta.Resource {
	return resource(l.Name, ListenerType, listener(l))
}

// Route encodes a route configuration as the resource of that name.
func Route(c *ir.RouteConfig) *delta.Resource {
	return resource(c.Name, RouteType, routeConfig(c))
}

// Cluster encodes a cluster as the resource of that name.
func Cluster(c *ir.Cluster) *delta.Resource {
	return resource(c.Name, ClusterType, cluster(c))
}

// Load encodes the endpoints of a cluster as the resource of its name.
func Load(l *ir.ClusterLoad) *delta.Resource {
	return resource(l.Cluster, LoadType, load(l))
}

// Resources encodes all of a layer: type URL to resources, in the layer's order.
func Resources(c *ir.Config) map[string][]*delta.Resource {
	return map[string][]*delta.Resource{
		ListenerType: each(c.Listeners, Listener),
		RouteType:    each(c.Routes, Route),
		ClusterType:  each(c.Clusters, Cluster),
		LoadType:     each(c.Loads, Load),
	}
}

func each[T any](in []T, f func(T) *delta.Resource) []*delta.Resource {
	out := make([]*delta.Resource, len(in))
	for i, x := range in {
		out[i] = f(x)
	}
	return out
}

// resource encodes m. The version is a 128-bit hash of the bytes.
func resource(name, typeURL string, m proto.Message) *delta.Resource {
	b := marshal(m)
	sum := xxh3.Hash128(b).Bytes()
	return &delta.Resource{
		Name:    name,
		Version: base64.RawURLEncoding.EncodeToString(sum[:]),
		Body:    &anypb.Any{TypeUrl: typeURL, Value: b},
	}
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
