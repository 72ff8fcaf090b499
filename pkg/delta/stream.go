package delta

import (
	"fmt"
	"strconv"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// Stream is the state of one stream. Its user tells it what is wanted (Want, At),
// what the peer says (Handle), and takes what may be sent (Next) until there is
// nothing, again after each of these and at Deadline. It is not safe for
// concurrent use.
//
// A stream that is in step holds one pointer per type: see state.
type Stream struct {
	cfg      *Config
	types    []state // of cfg.Types; then those that only the peer knows
	revision uint64  // of what is wanted
	seq      uint64  // of the last message
	marks    []mark
	acked    uint64
	held     []time.Time // by phase: since when it waits; zero: it does not
	turn     int         // first type to be looked at, without phases
	degraded bool
	returns  bool // the peer stated what it has
	news     bool
	own      Pool // when none is configured
}

// mark says that all of a revision was sent with the message seq or earlier.
type mark struct{ revision, seq uint64 }

// state is one type of a stream. What the peer holds of a name that it is
// subscribed to is what base has, unless off says otherwise; so when want is
// base and off is empty, nothing is to be sent.
type state struct {
	url string
	cfg *Type // nil: a type that only the peer knows

	asked    bool // there was a request
	settled  bool // base and off account for the first request
	wildcard bool
	greet    bool              // a wildcard subscription is to be answered, if with nothing
	greeted  bool              // a response was sent
	names    *names            // subscribed by name
	stated   map[string]string // versions of the first request, until settled

	want, base Source            // nil: not known, nothing
	off        map[string]offset // of names subscribed
	group      group             // to be sent as if each was in off, which goes before
	bare       []bare            // acknowledged, without what goes with it

	inflight []*Message // unanswered, oldest first
	rejected map[string]*rejection
	count    Counters
}

// offset is what is particular about one name.
type offset struct {
	version string // that the peer holds; "": none
	force   bool   // to be sent even if the peer has it
	alone   bool   // to be sent in a message of its own
}

// group is many names that are to be sent whether they changed or not: those of
// the first request, say, or the endpoints of many clusters that changed.
type group struct {
	names *names // nil: no group
	held  bool   // the peer holds what base has; otherwise nothing
	there Source // is known to have all of them; nil: none is
}

// unknownVersion stands for whatever a peer may hold; no hash equals it.
const unknownVersion = "?"

// maxUnknownTypes bounds what a peer can make a stream remember.
const maxUnknownTypes = 64

// New returns the state of a stream on which nothing was said yet.
func New(cfg *Config) *Stream {
	s := &Stream{cfg: cfg, types: make([]state, len(cfg.Types)), held: make([]time.Time, len(cfg.Phases))}
	for i := range cfg.Types {
		s.types[i].url = cfg.Types[i].URL
		s.types[i].cfg = &cfg.Types[i]
	}
	return s
}

// Want sets what the peer should have of the i-th type of the configuration. A
// nil source changes nothing. Before there is one, requests are not answered.
func (s *Stream) Want(i int, source Source) {
	if source == nil {
		return
	}
	t := &s.types[i]
	if t.want != nil && sameLayers(t.want, source) {
		// Nothing differs; what was there last is not kept for it.
		if t.base == t.want {
			t.base = source
		}
		if t.group.there == t.want {
			t.group.there = source
		}
	}
	t.want = source
	if t.asked {
		s.settle(t)
	}
}

// At states the revision of what is wanted, after Want was called for every type
// that differs.
func (s *Stream) At(revision uint64) { s.revision = revision }

// Handle takes a request of the peer. An error is the peer's fault, and ends the
// stream.
func (s *Stream) Handle(req *discovery.DeltaDiscoveryRequest, now time.Time) error {
	t, err := s.typeOf(req.GetTypeUrl())
	if err != nil {
		return err
	}
	s.verdict(t, req.GetResponseNonce(), req.GetErrorDetail(), now)
	if !t.asked {
		s.begin(t, req)
	} else if len(req.GetResourceNamesSubscribe())+len(req.GetResourceNamesUnsubscribe()) > 0 {
		s.subscribe(t, req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe())
	}
	return nil
}

func (s *Stream) typeOf(url string) (*state, error) {
	for i := range s.types {
		if s.types[i].url == url {
			return &s.types[i], nil
		}
	}
	if url == "" {
		return nil, fmt.Errorf("type_url is missing: a request on an aggregated stream names its type")
	}
	if len(s.types)-len(s.cfg.Types) >= maxUnknownTypes {
		return nil, fmt.Errorf("type_url %q: too many types that are not served here", url)
	}
	// What is not known does not exist; saying so lets the peer go on.
	s.types = append(s.types, state{url: url, want: (*Table)(nil)})
	return &s.types[len(s.types)-1], nil
}

// Deadline returns when Next may have something to send, or the report may
// change, although nothing happened; zero: never.
func (s *Stream) Deadline(now time.Time) time.Time {
	var at time.Time
	earliest := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for i := range s.types {
		t := &s.types[i]
		for _, b := range t.bare {
			earliest(b.since.Add(s.cfg.Gate))
		}
		for _, m := range t.inflight {
			if m.gates {
				earliest(m.sent.Add(s.cfg.Gate))
			}
		}
		for _, r := range t.rejected {
			if !r.retry.IsZero() {
				earliest(r.retry)
			}
		}
	}
	for _, since := range s.held {
		if !since.IsZero() {
			earliest(since.Add(s.cfg.Gate))
		}
	}
	return at
}

// Counters count responses.
type Counters struct {
	Sent, Acked, Rejected uint64
}

// Rejection is one resource that the peer refused and that is still wanted as it
// is.
type Rejection struct {
	Type    string // URL
	Name    string
	Version string
	Error   string
	Since   time.Time // of the first refusal of this version
}

// News reports, once, whether anything that the methods below return changed.
func (s *Stream) News() bool {
	news := s.news
	s.news = false
	return news
}

// Delivered returns the last revision that was wanted of which everything the
// peer asked for was sent and answered: acknowledged, or listed in Rejections.
func (s *Stream) Delivered() uint64 { return s.acked }

// Counters returns those of the i-th type.
func (s *Stream) Counters(i int) Counters { return s.types[i].count }

// Asked reports whether the peer asked for the i-th type.
func (s *Stream) Asked(i int) bool { return s.types[i].asked }

// InStep reports whether the peer was sent all that is wanted of the i-th type.
func (s *Stream) InStep(i int) bool { return s.types[i].settled && s.types[i].inStep() }

// Unanswered returns how many responses of the i-th type have no answer yet.
func (s *Stream) Unanswered(i int) int { return len(s.types[i].inflight) }

// Degraded reports whether a phase, at the last Next, waited in vain for
// acknowledgements, so that removals are held back.
func (s *Stream) Degraded() bool { return s.degraded }

// Rejections returns the resources refused that are still wanted as they are.
func (s *Stream) Rejections() []Rejection {
	var all []Rejection
	for i := range s.types {
		t := &s.types[i]
		for name, r := range t.rejected {
			if t.stillRejected(name, r) {
				all = append(all, Rejection{t.url, name, r.version, r.text, r.since})
			}
		}
	}
	return all
}

func (s *Stream) systemVersion() string {
	if s.revision == 0 {
		return ""
	}
	return strconv.FormatUint(s.revision, 10)
}
