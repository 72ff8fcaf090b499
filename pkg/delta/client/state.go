package client

import (
	"maps"
	"slices"
	"strings"

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
	types map[*names]*kind
	out   []*discovery.DeltaDiscoveryRequest
	named bool // the node was sent

	// Counters over all connections.
	Responses, Resources, Removals, Rejections uint64
	Revision                                   string // the last one stated, of any type
}

// kind is a type of resources.
type kind struct {
	names    *names
	wildcard bool
	entries  []entry // by the place of their names
	bodies   map[int][]byte
}

// entry is what a client knows of a name.
type entry struct {
	has      *version // nil: nothing
	uses     int32    // subscriptions, by hand and of resources that refer to it
	answered bool
}

// NewState returns a client that has nothing and begins a connection.
func NewState(opts Options) *State {
	if opts.Cache == nil {
		opts.Cache = new(Cache)
	}
	s := &State{opts: opts, types: make(map[*names]*kind)}
	for _, url := range opts.Subscribe {
		s.Subscribe(url, "*")
	}
	return s
}

func (s *State) kind(url string) *kind { return s.kindOf(s.opts.Cache.of(url)) }

func (s *State) kindOf(of *names) *kind {
	k := s.types[of]
	if k == nil {
		k = &kind{names: of}
		s.types[of] = k
	}
	return k
}

// entry may be used until the next call.
func (k *kind) entry(n *name) *entry {
	if more := n.place + 1 - len(k.entries); more > 0 {
		k.entries = append(k.entries, make([]entry, more)...)
	}
	return &k.entries[n.place]
}

// Subscribe asks for names of a type, "*" being all of them.
func (s *State) Subscribe(url string, names ...string) {
	k := s.kind(url)
	for _, name := range names {
		if name == "*" {
			k.wildcard = true
			continue
		}
		e := k.entry(k.names.named([]byte(name)))
		e.uses++
		e.answered = false
	}
	s.ask(url, names, nil)
}

// Unsubscribe asks no more for names of a type, and forgets what it has of them.
func (s *State) Unsubscribe(url string, names ...string) {
	k := s.kind(url)
	for _, name := range names {
		if name == "*" {
			k.wildcard = false
			continue
		}
		n := k.names.named([]byte(name))
		*k.entry(n) = entry{}
		delete(k.bodies, n.place)
	}
	if !k.wildcard {
		for place := range k.entries {
			if e := &k.entries[place]; e.uses == 0 {
				e.has = nil
				delete(k.bodies, place)
			}
		}
	}
	s.ask(url, nil, names)
}

func (s *State) ask(url string, add, remove []string) {
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: remove}
	if !s.named {
		req.Node, s.named = s.opts.Node, true
	}
	s.out = append(s.out, req)
}

// Reconnect begins another connection, stating what the client has.
func (s *State) Reconnect() {
	s.out, s.named = nil, false
	kinds := slices.SortedFunc(maps.Values(s.types), func(a, b *kind) int { return strings.Compare(a.names.url, b.names.url) })
	for _, k := range kinds {
		var names []string
		versions := map[string]string{}
		for place, e := range k.entries {
			if e.uses > 0 {
				names = append(names, k.names.at(place).text)
			}
			if e.has != nil {
				versions[k.names.at(place).text] = e.has.text
			}
		}
		slices.Sort(names)
		if k.wildcard {
			names = append(names, "*")
		}
		if len(names) == 0 {
			continue
		}
		s.ask(k.names.url, names, nil)
		s.out[len(s.out)-1].InitialResourceVersions = versions
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
	r.free()
	return nil
}

func (s *State) apply(r *Response) {
	if s.opts.Received != nil {
		s.opts.Received(r)
	}
	s.Responses++
	k := s.kind(r.URL)
	verdict := &discovery.DeltaDiscoveryRequest{TypeUrl: r.URL, ResponseNonce: r.Nonce}
	follow := s.opts.Follow && (r.URL == ClusterURL || r.URL == ListenerURL)
	var before, after []*version
	for i := range r.Resources {
		res := &r.Resources[i]
		if s.opts.Reject != nil {
			if err := s.opts.Reject(r.URL, *res); err != nil {
				if verdict.ErrorDetail == nil {
					verdict.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument)}
					s.Rejections++
				}
				verdict.ErrorDetail.Message += res.Name + ": " + err.Error() + "; "
				continue
			}
		}
		e := k.entry(res.name)
		if e.uses == 0 && !k.wildcard {
			continue // it came after the name was given up
		}
		s.Resources++
		if follow {
			s.opts.Cache.references(res)
			before, after = append(before, e.has), append(after, res.version)
		}
		e.has, e.answered = res.version, true
		if s.opts.KeepBodies {
			if k.bodies == nil {
				k.bodies = make(map[int][]byte)
			}
			k.bodies[res.Place] = slices.Clone(res.Value)
		}
	}
	for _, gone := range r.Removed {
		s.Removals++
		e := k.entry(gone.name)
		if follow {
			before = append(before, e.has)
		}
		e.has = nil
		delete(k.bodies, gone.Place)
		e.answered = e.answered || e.uses > 0
	}
	if r.Revision != "" {
		s.Revision = r.Revision
	}
	s.out = append(s.out, verdict)
	s.follow(before, after)
}

// follow changes the subscriptions to what resources refer to.
func (s *State) follow(before, after []*version) {
	added, removed := map[string][]string{}, map[string][]string{}
	for _, v := range after {
		for _, ref := range v.refs {
			e := s.kindOf(ref.of).entry(ref)
			if e.uses++; e.uses == 1 {
				added[ref.of.url] = append(added[ref.of.url], ref.text)
			}
		}
	}
	for _, v := range before {
		if v == nil {
			continue
		}
		for _, ref := range v.refs {
			k := s.kindOf(ref.of)
			e := k.entry(ref)
			if e.uses--; e.uses <= 0 {
				*e = entry{}
				delete(k.bodies, ref.place)
				removed[ref.of.url] = append(removed[ref.of.url], ref.text)
			}
		}
	}
	for _, url := range []string{EndpointURL, SecretURL, RouteURL} {
		if len(added[url])+len(removed[url]) > 0 {
			s.ask(url, added[url], removed[url])
		}
	}
}

// Has returns the versions of what the client has of a type, by name.
func (s *State) Has(url string) map[string]string {
	k, out := s.kind(url), map[string]string{}
	for place, e := range k.entries {
		if e.has != nil {
			out[k.names.at(place).text] = e.has.text
		}
	}
	return out
}

// Count returns how many resources of a type the client has.
func (s *State) Count(url string) int {
	n := 0
	for _, e := range s.kind(url).entries {
		if e.has != nil {
			n++
		}
	}
	return n
}

// Version returns the version that the client has of a resource; "" if none.
func (s *State) Version(url, name string) string {
	k := s.kind(url)
	if e := k.entry(k.names.named([]byte(name))); e.has != nil {
		return e.has.text
	}
	return ""
}

// Names returns how many names of a type are subscribed to, besides a wildcard.
func (s *State) Names(url string) int {
	n := 0
	for _, e := range s.kind(url).entries {
		if e.uses > 0 {
			n++
		}
	}
	return n
}

// Answered reports whether each name subscribed to has been answered; a wildcard
// is none.
func (s *State) Answered(url string) bool {
	return !slices.ContainsFunc(s.kind(url).entries, func(e entry) bool { return e.uses > 0 && !e.answered })
}

// Body returns the encoded resource of that name, if KeepBodies is set.
func (s *State) Body(url, name string) []byte {
	k := s.kind(url)
	return k.bodies[k.names.named([]byte(name)).place]
}
