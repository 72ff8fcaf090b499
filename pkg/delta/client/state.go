package client

import (
	"maps"
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
)

// Options are how a client behaves.
type Options struct {
	Node *core.Node
	// Subscribe lists the types asked for at once, each with a wildcard.
	Subscribe []string
	// Follow asks for the endpoints of clusters, the routes of listeners and the
	// secrets of both, as Envoy does.
	Follow bool
	// KeepBodies keeps resources, not only their versions.
	KeepBodies bool
	// Reject refuses a response that contains a resource for which it returns an
	// error. As in Envoy, the other resources of the response are taken.
	Reject func(url string, r Resource) error
	// Received is told of every response before it is applied.
	Received func(*Response)
	// Cache is shared with other clients; nil: one of its own.
	Cache *Cache
}

// State is a client without a connection: what it asked for and what it has. It
// survives connections. It is not safe for concurrent use.
type State struct {
	opts  Options
	types map[string]*kind
	out   []*discovery.DeltaDiscoveryRequest
	named bool // the node was sent

	// Counters over all connections.
	Responses, Resources, Removals, Rejections uint64
	Revision                                   string // the last one stated, of any type
}

type kind struct {
	asked    bool // on this connection
	wildcard bool
	names    map[string]int // subscribed, with how many resources refer to it
	has      map[string]string
	bodies   map[string][]byte
	refs     map[string][]Ref // by the resource that has them
	answered map[string]struct{}
}

// NewState returns a client that has nothing and begins a connection.
func NewState(opts Options) *State {
	if opts.Cache == nil {
		opts.Cache = new(Cache)
	}
	s := &State{opts: opts, types: make(map[string]*kind)}
	for _, url := range opts.Subscribe {
		s.Subscribe(url, "*")
	}
	return s
}

func (s *State) kind(url string) *kind {
	k := s.types[url]
	if k == nil {
		k = &kind{names: map[string]int{}, has: map[string]string{}, answered: map[string]struct{}{}}
		s.types[url] = k
	}
	return k
}

// Subscribe asks for names of a type, "*" being all of them.
func (s *State) Subscribe(url string, names ...string) {
	k := s.kind(url)
	for _, name := range names {
		if name == "*" {
			k.wildcard = true
		} else {
			k.names[name]++
			delete(k.answered, name)
		}
	}
	s.ask(url, names, nil)
}

// Unsubscribe asks no more for names of a type, and forgets what it has of them.
func (s *State) Unsubscribe(url string, names ...string) {
	k := s.kind(url)
	for _, name := range names {
		if name == "*" {
			k.wildcard = false
		} else {
			delete(k.names, name)
			delete(k.answered, name)
		}
	}
	for name := range k.has {
		if _, ok := k.names[name]; !ok && (!k.wildcard || slices.Contains(names, name)) {
			k.drop(name)
		}
	}
	s.ask(url, nil, names)
}

func (k *kind) drop(name string) {
	delete(k.has, name)
	delete(k.bodies, name)
	delete(k.refs, name)
}

func (s *State) ask(url string, add, remove []string) {
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: remove}
	if !s.named {
		req.Node, s.named = s.opts.Node, true
	}
	s.kind(url).asked = true
	s.out = append(s.out, req)
}

// Reconnect begins another connection, stating what the client has.
func (s *State) Reconnect() {
	s.out, s.named = nil, false
	for _, url := range slices.Sorted(maps.Keys(s.types)) {
		k := s.types[url]
		k.asked = false
		names := slices.Sorted(maps.Keys(k.names))
		if k.wildcard {
			names = append(names, "*")
		}
		if len(names) == 0 {
			continue
		}
		s.ask(url, names, nil)
		s.out[len(s.out)-1].InitialResourceVersions = maps.Clone(k.has)
	}
}

// Requests returns what is to be sent, once.
func (s *State) Requests() []*discovery.DeltaDiscoveryRequest {
	out := s.out
	s.out = nil
	return out
}

// Receive applies an encoded DeltaDiscoveryResponse and prepares the answer.
func (s *State) Receive(encoded []byte) error {
	r, err := decode(encoded, s.opts.Cache)
	if err != nil {
		return err
	}
	s.apply(r)
	return nil
}

func (s *State) apply(r *Response) {
	if s.opts.Received != nil {
		s.opts.Received(r)
	}
	s.Responses++
	k := s.kind(r.URL)
	verdict := &discovery.DeltaDiscoveryRequest{TypeUrl: r.URL, ResponseNonce: r.Nonce}
	var before, after []Ref
	for _, res := range r.Resources {
		if s.opts.Reject != nil {
			if err := s.opts.Reject(r.URL, res); err != nil {
				if verdict.ErrorDetail == nil {
					verdict.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument)}
					s.Rejections++
				}
				verdict.ErrorDetail.Message += res.Name + ": " + err.Error() + "; "
				continue
			}
		}
		if _, named := k.names[res.Name]; !named && !k.wildcard {
			continue // it came after the name was given up
		}
		s.Resources++
		k.has[res.Name] = res.Version
		k.answered[res.Name] = struct{}{}
		if s.opts.KeepBodies {
			if k.bodies == nil {
				k.bodies = make(map[string][]byte)
			}
			k.bodies[res.Name] = slices.Clone(res.Value)
		}
		if s.opts.Follow && (r.URL == ClusterURL || r.URL == ListenerURL) {
			before = append(before, k.refs[res.Name]...)
			refs := s.opts.Cache.references(res)
			after = append(after, refs...)
			if k.refs == nil {
				k.refs = make(map[string][]Ref)
			}
			k.refs[res.Name] = refs
		}
	}
	for _, name := range r.Removed {
		s.Removals++
		before = append(before, k.refs[name]...)
		k.drop(name)
		if _, named := k.names[name]; named {
			k.answered[name] = struct{}{}
		}
	}
	if r.Revision != "" {
		s.Revision = r.Revision
	}
	s.out = append(s.out, verdict)
	s.follow(before, after)
}

// follow changes the subscriptions to what resources refer to.
func (s *State) follow(before, after []Ref) {
	added, removed := map[string][]string{}, map[string][]string{}
	for _, ref := range after {
		k := s.kind(ref.URL)
		if k.names[ref.Name]++; k.names[ref.Name] == 1 {
			added[ref.URL] = append(added[ref.URL], ref.Name)
		}
	}
	for _, ref := range before {
		k := s.kind(ref.URL)
		if k.names[ref.Name]--; k.names[ref.Name] <= 0 {
			delete(k.names, ref.Name)
			delete(k.answered, ref.Name)
			k.drop(ref.Name)
			removed[ref.URL] = append(removed[ref.URL], ref.Name)
		}
	}
	for _, url := range []string{EndpointURL, SecretURL, RouteURL} {
		if len(added[url])+len(removed[url]) > 0 {
			s.ask(url, added[url], removed[url])
		}
	}
}

// Has returns the versions of what the client has of a type. Callers do not
// change it and do not keep it.
func (s *State) Has(url string) map[string]string { return s.kind(url).has }

// Names returns how many names of a type are subscribed to, besides a wildcard.
func (s *State) Names(url string) int { return len(s.kind(url).names) }

// Answered reports whether each name subscribed to has been answered.
func (s *State) Answered(url string) bool {
	k := s.kind(url)
	for name := range k.names {
		if _, ok := k.answered[name]; !ok {
			return false
		}
	}
	return true
}

// Body returns the encoded resource of that name, if KeepBodies is set.
func (s *State) Body(url, name string) []byte { return s.kind(url).bodies[name] }
