package ir

import "time"

// Kinds of Balancer.
const (
	RoundRobin   = "RoundRobin"
	LeastRequest = "LeastRequest"
	RingHash     = "RingHash"
	Random       = "Random"
	Maglev       = "Maglev"
)

// Balancer chooses among endpoints. What is nil is Envoy's default.
type Balancer struct {
	Kind    string   `json:"kind"`
	Choices *uint32  `json:"choices,omitempty"` // of LeastRequest
	Bias    *float64 `json:"bias,omitempty"`
	MinRing *uint64  `json:"minRing,omitempty"` // of RingHash
	MaxRing *uint64  `json:"maxRing,omitempty"`
	Murmur  bool     `json:"murmur,omitempty"` // the other hash function
	Table   *uint64  `json:"table,omitempty"`  // of Maglev, a prime number
}

// Hash is something of a request by which a hashing Balancer chooses. One of
// Header, Cookie, Query, State and SourceIP is set.
type Hash struct {
	Header   string  `json:"header,omitempty"`
	Cookie   *Cookie `json:"cookie,omitempty"`
	Query    string  `json:"query,omitempty"`
	State    string  `json:"state,omitempty"` // key of filter state
	SourceIP bool    `json:"sourceIP,omitempty"`
	Terminal bool    `json:"terminal,omitempty"` // what follows is left out for those that have it
}

// Cookie is set in the response when TTL is, to 0 for the session.
type Cookie struct {
	Name string         `json:"name"`
	Path string         `json:"path,omitempty"`
	TTL  *time.Duration `json:"ttlDuration,omitempty"`
}

// Placement arranges the endpoints of a cluster for clients of one zone. The
// zero Placement prefers the own zone to all others.
type Placement struct {
	// Flat makes all zones equal. Nothing else but Keep applies then.
	Flat bool `json:"flat,omitempty"`
	// Grouped applies Affinity within the own zone, and Steps to other zones:
	// endpoints that no step takes get no traffic.
	Grouped  bool       `json:"grouped,omitempty"`
	Affinity []Affinity `json:"affinity,omitempty"` // the first that an endpoint has
	Steps    []Step     `json:"steps,omitempty"`    // the first that takes a zone
	// Weighted: weights of localities count.
	Weighted bool `json:"weighted,omitempty"`
	// Overprovisioning is the percentage by which the endpoints of a priority are
	// more than needed, over 100; 0 is Envoy's default.
	Overprovisioning uint32 `json:"overprovisioning,omitempty"`
	// Keep is the labels of endpoints that Envoy needs, sorted.
	Keep []string `json:"keep,omitempty"`
}

// Affinity is a share of traffic for endpoints with a label.
type Affinity struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Weight uint32 `json:"weight"`
}

// Step gives zones a priority: those listed, or with Except those not listed.
type Step struct {
	Zones    []string `json:"zones,omitempty"`
	Except   bool     `json:"except,omitempty"`
	Priority uint32   `json:"priority"`
}
