// Package meshpassthrough is the policy MeshPassthrough: where outside the mesh
// a workload may connect.
package meshpassthrough

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshPassthrough.
type Spec struct {
	// TargetRef selects the clients; all proxies of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// Default is what the selected clients may reach.
	Default *Conf `json:"default,omitempty"`
}

// Modes of passing traffic that is not for the mesh.
const (
	All     = "All"
	Matched = "Matched"
	None    = "None"
)

// Conf is what may be reached.
type Conf struct {
	// PassthroughMode is Matched when absent. Without any policy it is All.
	PassthroughMode *string `json:"passthroughMode,omitempty" schema:"enum=All|Matched|None"`
	// AppendMatch lists what may be reached in mode Matched, of all policies
	// together.
	AppendMatch []Match `json:"appendMatch,omitempty"`
}

// Types of a Match.
const (
	Domain = "Domain"
	IP     = "IP"
	CIDR   = "CIDR"
)

// Protocols of a Match.
const (
	TCP   = "tcp"
	TLS   = "tls"
	GRPC  = "grpc"
	HTTP  = "http"
	HTTP2 = "http2"
	MySQL = "mysql"
)

// Match is one thing outside the mesh.
type Match struct {
	Type  string `json:"type" schema:"enum=Domain|IP|CIDR"`
	Value string `json:"value"`
	// Port is any when absent.
	Port     *int32 `json:"port,omitempty"`
	Protocol string `json:"protocol,omitempty" schema:"enum=tcp|tls|grpc|http|http2|mysql,default=tcp"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshPassthrough", Short: "mp",
	Plural: "meshpassthroughs", Single: "meshpassthrough",
	Display: "Mesh Passthrough", Displays: "Mesh Passthroughs",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		return policy.Bodies[Conf]{TargetRef: s.TargetRef, Default: s.Default}
	},
	Validate: validate,
	Warnings: warnings,
	Proxy:    proxy,
})
