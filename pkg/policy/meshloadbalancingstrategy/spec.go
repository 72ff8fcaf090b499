// Package meshloadbalancingstrategy is the policy MeshLoadBalancingStrategy: how
// an endpoint is chosen, from which zones, and which requests stay together.
package meshloadbalancingstrategy

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshLoadBalancingStrategy.
type Spec struct {
	// TargetRef selects the clients; all proxies of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To sets the strategy per destination.
	To []policy.To[Conf] `json:"to,omitempty"`
}

// Conf is the strategy for one destination; nil is not set here.
type Conf struct {
	// HashPolicies say what of a request decides about its endpoint. They need a
	// load balancer that hashes.
	HashPolicies []HashPolicy `json:"hashPolicies,omitzero"`
	// LoadBalancer chooses among the endpoints.
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// LocalityAwareness prefers endpoints that are near.
	LocalityAwareness *LocalityAwareness `json:"localityAwareness,omitempty"`
}

// Types of load balancers.
const (
	RoundRobin   = "RoundRobin"
	LeastRequest = "LeastRequest"
	RingHash     = "RingHash"
	Random       = "Random"
	Maglev       = "Maglev"
)

// LoadBalancer is a way to choose, in the member that Type names.
type LoadBalancer struct {
	Type         string            `json:"type" schema:"enum=RoundRobin|LeastRequest|RingHash|Random|Maglev"`
	RoundRobin   *NoSettings       `json:"roundRobin,omitempty"`
	LeastRequest *LeastRequestConf `json:"leastRequest,omitempty"`
	RingHash     *RingHashConf     `json:"ringHash,omitempty"`
	Random       *NoSettings       `json:"random,omitempty"`
	Maglev       *MaglevConf       `json:"maglev,omitempty"`
}

// NoSettings is of load balancers that have none.
type NoSettings struct{}

// LeastRequestConf takes the least busy of some random endpoints.
type LeastRequestConf struct {
	// ChoiceCount is how many are compared; 2 when not set.
	ChoiceCount *uint32 `json:"choiceCount,omitempty" schema:"min=2"`
	// ActiveRequestBias is how much being busy counts against weight.
	ActiveRequestBias *policy.IntOrString `json:"activeRequestBias,omitempty"`
}

// RingHashConf puts endpoints on a ring.
type RingHashConf struct {
	HashFunction string  `json:"hashFunction,omitempty" schema:"enum=XXHash|MurmurHash2"`
	MinRingSize  *uint32 `json:"minRingSize,omitempty" schema:"min=1,max=8000000"`
	MaxRingSize  *uint32 `json:"maxRingSize,omitempty" schema:"min=1,max=8000000"`
}

// MaglevConf puts endpoints into a table.
type MaglevConf struct {
	// TableSize is the size, or the next prime number above; 65537 when not set.
	TableSize *uint32 `json:"tableSize,omitempty" schema:"min=1,max=5000011"`
}

// Types of hash policies.
const (
	Header         = "Header"
	Cookie         = "Cookie"
	Connection     = "Connection"
	QueryParameter = "QueryParameter"
	FilterState    = "FilterState"
)

// HashPolicy is something of a request, in the member that Type names.
type HashPolicy struct {
	Type           string              `json:"type" schema:"enum=Header|Cookie|Connection|QueryParameter|FilterState"`
	Header         *HeaderHash         `json:"header,omitempty"`
	Cookie         *CookieHash         `json:"cookie,omitempty"`
	Connection     *ConnectionHash     `json:"connection,omitempty"`
	QueryParameter *QueryParameterHash `json:"queryParameter,omitempty"`
	FilterState    *FilterStateHash    `json:"filterState,omitempty"`
	// Terminal ends the list for requests that have it.
	Terminal *bool `json:"terminal,omitempty"`
}

// HeaderHash is the value of a header.
type HeaderHash struct {
	Name string `json:"name" schema:"minLen=1"`
}

// CookieHash is the value of a cookie, which is set where TTL says for how long.
type CookieHash struct {
	Name string           `json:"name" schema:"minLen=1"`
	TTL  *policy.Duration `json:"ttl,omitempty"`
	Path *string          `json:"path,omitempty"`
}

// ConnectionHash is the client's address.
type ConnectionHash struct {
	SourceIP *bool `json:"sourceIP,omitempty"`
}

// QueryParameterHash is the value of a parameter of the query string.
type QueryParameterHash struct {
	Name string `json:"name" schema:"minLen=1"`
}

// FilterStateHash is an object that a filter left.
type FilterStateHash struct {
	Key string `json:"key" schema:"minLen=1"`
}

// LocalityAwareness prefers what is near.
type LocalityAwareness struct {
	// Disabled makes all zones equal.
	Disabled *bool `json:"disabled,omitempty"`
	// LocalZone prefers endpoints of the own zone that are nearer than others.
	LocalZone *LocalZone `json:"localZone,omitempty"`
	// CrossZone says where traffic goes when the own zone cannot take it.
	CrossZone *CrossZone `json:"crossZone,omitempty"`
}

// LocalZone is the order within the own zone.
type LocalZone struct {
	// AffinityTags are labels that client and endpoint should share, the most
	// important first.
	AffinityTags []AffinityTag `json:"affinityTags,omitzero"`
}

// AffinityTag is a label and how much sharing it counts.
type AffinityTag struct {
	Key    string  `json:"key"`
	Weight *uint32 `json:"weight,omitempty"`
}

// CrossZone is the order of other zones.
type CrossZone struct {
	// Failover is tried in order. Zones that no element names get no traffic.
	Failover []Failover `json:"failover,omitzero"`
	// FailoverThreshold is how much of a priority must be healthy.
	FailoverThreshold *FailoverThreshold `json:"failoverThreshold,omitempty"`
}

// Failover is one step.
type Failover struct {
	// From confines the step to clients of some zones.
	From *FromZones `json:"from,omitempty"`
	To   ToZones    `json:"to"`
}

// FromZones is zones of clients.
type FromZones struct {
	Zones []string `json:"zones"`
}

// Types of ToZones.
const (
	None      = "None"
	Only      = "Only"
	Any       = "Any"
	AnyExcept = "AnyExcept"
)

// ToZones is zones of endpoints.
type ToZones struct {
	Type  string   `json:"type" schema:"enum=None|Only|Any|AnyExcept"`
	Zones []string `json:"zones,omitzero"`
}

// FailoverThreshold is a percentage of healthy endpoints.
type FailoverThreshold struct {
	Percentage policy.IntOrString `json:"percentage"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshLoadBalancingStrategy", Short: "mlbs",
	Plural: "meshloadbalancingstrategies", Single: "meshloadbalancingstrategy",
	Display: "Mesh Load Balancing Strategy", Displays: "Mesh Load Balancing Strategies",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		return policy.Bodies[Conf]{TargetRef: s.TargetRef, To: s.To}
	},
	To: []resource.Type{
		policy.Mesh, policy.MeshService, policy.MeshExternalService,
		policy.MeshMultiZoneService, policy.MeshHTTPRoute,
	},
	Validate: validate,
	Outbound: outbound,
	Route:    route,
	Cluster:  cluster,
	Place:    place,
	Labels:   labels,
})
