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

// Cache is shared by clients: it keeps each name and each version once, and looks
// once into each version of a resource. The zero Cache is ready.
type Cache struct {
	mu    sync.RWMutex
	types map[string]*names
}

// names are those of the resources of a type.
type names struct {
	url    string
	mu     sync.RWMutex
	byText map[string]*name
	all    []*name
}

// name is that of resources. Its place is where clients keep what they have of it:
// a thousand clients with a thousand resources each need little more than a pointer
// for each.
type name struct {
	of       *names
	text     string
	place    int
	versions map[string]*version // guarded by of.mu
}

// version is what all clients know of a version of a resource.
type version struct {
	text string
	look sync.Once
	refs []*name // what the resource refers to; set by look
}

// refers is a resource that another one refers to.
type refers struct{ url, name string }

func (c *Cache) of(url string) *names { return c.ofText([]byte(url)) }

func (c *Cache) ofText(url []byte) *names {
	c.mu.RLock()
	t := c.types[string(url)]
	c.mu.RUnlock()
	if t != nil {
		return t
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.types[string(url)]; t != nil {
		return t
	}
	if c.types == nil {
		c.types = make(map[string]*names)
	}
	t = &names{url: string(url), byText: make(map[string]*name)}
	c.types[t.url] = t
	return t
}

func (t *names) named(text []byte) *name {
	t.mu.RLock()
	n := t.byText[string(text)]
	t.mu.RUnlock()
	if n != nil {
		return n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n = t.byText[string(text)]; n == nil {
		n = &name{of: t, text: string(text), place: len(t.all), versions: make(map[string]*version)}
		t.byText[n.text] = n
		t.all = append(t.all, n)
	}
	return n
}

// at returns the name of a place.
func (t *names) at(place int) *name {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.all[place]
}

func (n *name) versioned(text []byte) *version {
	n.of.mu.RLock()
	v := n.versions[string(text)]
	n.of.mu.RUnlock()
	if v != nil {
		return v
	}
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	if v = n.versions[string(text)]; v == nil {
		v = &version{text: string(text)}
		n.versions[v.text] = v
	}
	return v
}

// references returns what a resource refers to, of what travels by ADS.
func (c *Cache) references(r *Resource) []*name {
	v := r.version
	v.look.Do(func() {
		m, err := (&anypb.Any{TypeUrl: r.TypeURL, Value: r.Value}).UnmarshalNew()
		if err != nil {
			return // it refers to nothing that a client could follow
		}
		collect(m.ProtoReflect(), func(ref refers) {
			v.refs = append(v.refs, c.of(ref.url).named([]byte(ref.name)))
		})
	})
	return v.refs
}

// collect looks through a message, whatever its type, and into Anys it knows.
func collect(m protoreflect.Message, found func(refers)) {
	switch msg := m.Interface().(type) {
	case *cluster.Cluster:
		if msg.GetType() == cluster.Cluster_EDS {
			name := msg.GetEdsClusterConfig().GetServiceName()
			if name == "" {
				name = msg.GetName()
			}
			found(refers{EndpointURL, name})
		}
	case *hcm.Rds:
		found(refers{RouteURL, msg.GetRouteConfigName()})
		return
	case *tls.SdsSecretConfig:
		if msg.GetSdsConfig() != nil {
			found(refers{SecretURL, msg.GetName()})
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
