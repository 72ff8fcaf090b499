// Package meshhttproute is the policy MeshHTTPRoute: which requests to a
// destination go where, and how they are changed on the way.
package meshhttproute

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshHTTPRoute.
type Spec struct {
	// TargetRef selects the clients; all proxies of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To lists the destinations whose requests are routed.
	To []To `json:"to,omitempty"`
}

// To is the routes of requests to a destination.
type To struct {
	// TargetRef selects the destinations.
	TargetRef policy.ToRef `json:"targetRef"`
	// Hostnames is reserved and must be empty.
	Hostnames []string `json:"hostnames,omitempty"`
	// Rules are tried in order of how much they ask of a request, then as listed.
	Rules []Rule `json:"rules"`
}

// Conf is the part that is merged: rules with equal matches become one.
type Conf struct {
	Rules []Rule `json:"rules"`
}

// Rule says what happens to requests that satisfy any of its matches.
type Rule struct {
	Matches []Match  `json:"matches" schema:"minItems=1"`
	Default RuleConf `json:"default"`

	// origin is the strongest policy that contributed to a merged rule.
	origin policy.Origin
}

// RuleConf is what happens.
type RuleConf struct {
	// Filters change requests and responses, in order.
	Filters []Filter `json:"filters,omitzero"`
	// BackendRefs share the requests by weight; the destination itself when
	// absent.
	BackendRefs []policy.BackendRef `json:"backendRefs,omitzero"`
}

// Match is satisfied by a request when everything in it holds.
type Match struct {
	Path        *PathMatch    `json:"path,omitempty"`
	Method      string        `json:"method,omitempty" schema:"enum=CONNECT|DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT|TRACE"`
	QueryParams []QueryMatch  `json:"queryParams,omitempty"`
	Headers     []HeaderMatch `json:"headers,omitempty"`
}

// Types of matches.
const (
	Exact             = "Exact"
	PathPrefix        = "PathPrefix"
	RegularExpression = "RegularExpression"
	Present           = "Present"
	Absent            = "Absent"
	Prefix            = "Prefix"
)

// PathMatch compares the path of a request; a prefix matches whole segments.
type PathMatch struct {
	Value string `json:"value" schema:"minLen=1"`
	Type  string `json:"type" schema:"enum=Exact|PathPrefix|RegularExpression"`
}

// QueryMatch compares a parameter of the query string.
type QueryMatch struct {
	Type  string `json:"type" schema:"enum=Exact|RegularExpression"`
	Name  string `json:"name" schema:"minLen=1"`
	Value string `json:"value"`
}

// HeaderMatch compares a header of the request.
type HeaderMatch struct {
	Type  string     `json:"type,omitempty" schema:"enum=Exact|Present|RegularExpression|Absent|Prefix,default=Exact"`
	Name  HeaderName `json:"name"`
	Value string     `json:"value,omitempty"`
}

// HeaderName is the lower-case name of a header.
type HeaderName string

// JSONSchema states the characters of a token.
func (HeaderName) JSONSchema() *resource.Schema {
	low, high := 1, 256
	return &resource.Schema{
		Type: "string", MinLength: &low, MaxLength: &high,
		Pattern: "^[a-z0-9!#$%&'*+\\-.^_\\x60|~]+$",
	}
}

// Hostname is a DNS name.
type Hostname string

// JSONSchema states the form of a DNS name.
func (Hostname) JSONSchema() *resource.Schema {
	low, high := 1, 253
	return &resource.Schema{
		Type: "string", MinLength: &low, MaxLength: &high,
		Pattern: `^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`,
	}
}

// Types of filters.
const (
	RequestHeaderModifier  = "RequestHeaderModifier"
	ResponseHeaderModifier = "ResponseHeaderModifier"
	RequestRedirect        = "RequestRedirect"
	URLRewrite             = "URLRewrite"
	RequestMirror          = "RequestMirror"
)

// Filter is one change, in the member that Type names.
type Filter struct {
	Type                   string          `json:"type" schema:"enum=RequestHeaderModifier|ResponseHeaderModifier|RequestRedirect|URLRewrite|RequestMirror"`
	RequestHeaderModifier  *HeaderModifier `json:"requestHeaderModifier,omitempty"`
	ResponseHeaderModifier *HeaderModifier `json:"responseHeaderModifier,omitempty"`
	RequestRedirect        *Redirect       `json:"requestRedirect,omitempty"`
	URLRewrite             *Rewrite        `json:"urlRewrite,omitempty"`
	RequestMirror          *Mirror         `json:"requestMirror,omitempty"`
}

// HeaderModifier sets, adds and removes headers.
type HeaderModifier struct {
	Set    []policy.Header `json:"set,omitempty" schema:"maxItems=16"`
	Add    []policy.Header `json:"add,omitempty" schema:"maxItems=16"`
	Remove []string        `json:"remove,omitempty" schema:"maxItems=16"`
}

// Redirect answers with another location.
type Redirect struct {
	Scheme     string       `json:"scheme,omitempty" schema:"enum=http|https"`
	Hostname   Hostname     `json:"hostname,omitempty"`
	Port       uint32       `json:"port,omitempty" schema:"min=1,max=65535"`
	StatusCode int          `json:"statusCode,omitempty" schema:"enum=301|302|303|307|308,default=302"`
	Path       *PathRewrite `json:"path,omitempty"`
}

// Rewrite changes the host and path that the backend sees.
type Rewrite struct {
	Hostname              Hostname     `json:"hostname,omitempty"`
	Path                  *PathRewrite `json:"path,omitempty"`
	HostToBackendHostname bool         `json:"hostToBackendHostname,omitempty"`
}

// Types of path rewrites.
const (
	ReplaceFullPath    = "ReplaceFullPath"
	ReplacePrefixMatch = "ReplacePrefixMatch"
)

// PathRewrite replaces the path, or the prefix of it that was matched.
type PathRewrite struct {
	Type               string  `json:"type" schema:"enum=ReplaceFullPath|ReplacePrefixMatch"`
	ReplaceFullPath    *string `json:"replaceFullPath,omitempty"`
	ReplacePrefixMatch *string `json:"replacePrefixMatch,omitempty"`
}

// Mirror copies requests to a backend and ignores its answers.
type Mirror struct {
	// Percentage of the requests; all when absent.
	Percentage *policy.IntOrString `json:"percentage,omitempty"`
	BackendRef policy.BackendRef   `json:"backendRef"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshHTTPRoute", Short: "mhttpr",
	Plural: "meshhttproutes", Single: "meshhttproute",
	Display: "Mesh HTTP Route", Displays: "Mesh HTTP Routes",
}, policy.Hooks[Spec, Conf]{
	Bodies:   bodies,
	To:       []resource.Type{policy.MeshService, policy.MeshExternalService, policy.MeshMultiZoneService},
	Validate: validate,
	Merge:    merge,
	Outbound: outbound,
	Reads:    reads,
})

func bodies(s *Spec) policy.Bodies[Conf] {
	b := policy.Bodies[Conf]{TargetRef: s.TargetRef}
	for _, to := range s.To {
		b.To = append(b.To, policy.To[Conf]{TargetRef: to.TargetRef, Default: Conf{Rules: to.Rules}})
	}
	return b
}
