package client

import (
	"sync"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3" // read below by its type URL
)

// Type URLs of what a client follows.
const (
	ClusterURL  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerURL = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteURL    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	SecretURL   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// Cache is shared by clients to keep each string once, and to look once into
// each version of a resource. The zero Cache is ready.
type Cache struct {
	mu      sync.RWMutex
	strings map[string]string
	refs    map[refKey][]Ref
}

type refKey struct{ name, version string }

// Ref is a resource that another one refers to.
type Ref struct{ URL, Name string }

func (c *Cache) text(b []byte) string {
	c.mu.RLock()
	s, ok := c.strings[string(b)]
	c.mu.RUnlock()
	if ok {
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.strings == nil {
		c.strings = make(map[string]string)
	}
	if s, ok := c.strings[string(b)]; ok {
		return s
	}
	s = string(b)
	c.strings[s] = s
	return s
}

// references returns what a resource refers to, of what travels by ADS.
func (c *Cache) references(r Resource) []Ref {
	key := refKey{r.Name, r.Version}
	c.mu.RLock()
	refs, ok := c.refs[key]
	c.mu.RUnlock()
	if ok {
		return refs
	}
	if m, err := (&anypb.Any{TypeUrl: r.TypeURL, Value: r.Value}).UnmarshalNew(); err == nil {
		collect(m.ProtoReflect(), func(ref Ref) { refs = append(refs, ref) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refs == nil {
		c.refs = make(map[refKey][]Ref)
	}
	c.refs[key] = refs
	return refs
}

// collect looks through a message, whatever its type, and into Anys it knows.
func collect(m protoreflect.Message, found func(Ref)) {
	switch msg := m.Interface().(type) {
	case *cluster.Cluster:
		if msg.GetType() == cluster.Cluster_EDS {
			name := msg.GetEdsClusterConfig().GetServiceName()
			if name == "" {
				name = msg.GetName()
			}
			found(Ref{EndpointURL, name})
		}
	case *hcm.Rds:
		found(Ref{RouteURL, msg.GetRouteConfigName()})
		return
	case *tls.SdsSecretConfig:
		if msg.GetSdsConfig() != nil {
			found(Ref{SecretURL, msg.GetName()})
		}
		return
	case *anypb.Any:
		if inner, err := anypb.UnmarshalNew(msg, proto.UnmarshalOptions{}); err == nil {
			collect(inner.ProtoReflect(), found)
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					collect(v.Message(), found)
					return true
				})
			}
		case fd.IsList():
			if fd.Message() != nil {
				for i := range v.List().Len() {
					collect(v.List().Get(i).Message(), found)
				}
			}
		case fd.Message() != nil:
			collect(v.Message(), found)
		}
		return true
	})
}
