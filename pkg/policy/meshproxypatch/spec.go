// Package meshproxypatch is the policy MeshProxyPatch: changes to Envoy's
// configuration by hand, for what no other policy offers.
package meshproxypatch

import (
	"encoding/json"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshProxyPatch.
type Spec struct {
	// TargetRef selects the proxies; all of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// Default is the changes.
	Default Conf `json:"default"`
}

// Conf is the changes, of all policies together, the most general first.
type Conf struct {
	AppendModifications []Modification `json:"appendModifications,omitempty"`
}

// Modification is one change; exactly one member is set.
type Modification struct {
	Cluster       *Resource    `json:"cluster,omitempty"`
	Listener      *Listener    `json:"listener,omitempty"`
	NetworkFilter *Filter      `json:"networkFilter,omitempty"`
	HTTPFilter    *Filter      `json:"httpFilter,omitempty"`
	VirtualHost   *VirtualHost `json:"virtualHost,omitempty"`
}

// Operations.
const (
	Add       = "Add"
	Remove    = "Remove"
	Patch     = "Patch"
	AddFirst  = "AddFirst"
	AddLast   = "AddLast"
	AddBefore = "AddBefore"
	AddAfter  = "AddAfter"
)

// Change is what is done: Value is YAML of Envoy's message.
type Change struct {
	Value       *string     `json:"value,omitempty"`
	JSONPatches []JSONPatch `json:"jsonPatches,omitempty"`
}

// JSONPatch is one operation of RFC 6902.
type JSONPatch struct {
	Op    string  `json:"op" schema:"enum=add|remove|replace|move|copy"`
	Path  string  `json:"path"`
	From  *string `json:"from,omitempty"`
	Value *Value  `json:"value,omitempty"`
}

// Value is any JSON.
type Value json.RawMessage

// MarshalJSON writes the value as it was given.
func (v Value) MarshalJSON() ([]byte, error) { return json.RawMessage(v).MarshalJSON() }

// UnmarshalJSON keeps the value as it is.
func (v *Value) UnmarshalJSON(b []byte) error { return (*json.RawMessage)(v).UnmarshalJSON(b) }

// JSONSchema accepts anything.
func (Value) JSONSchema() *resource.Schema { return &resource.Schema{Open: true} }

// Resource changes clusters.
type Resource struct {
	Operation string `json:"operation" schema:"enum=Add|Remove|Patch"`
	Match     *Match `json:"match,omitempty"`
	Change
}

// Match selects by what a resource is called and what made it.
type Match struct {
	Origin *string `json:"origin,omitempty"`
	Name   *string `json:"name,omitempty"`
}

// Listener changes listeners.
type Listener struct {
	Operation string         `json:"operation" schema:"enum=Add|Remove|Patch"`
	Match     *ListenerMatch `json:"match,omitempty"`
	Change
}

// ListenerMatch selects listeners. A tag with the value * must exist.
type ListenerMatch struct {
	Origin *string           `json:"origin,omitempty"`
	Name   *string           `json:"name,omitempty"`
	Tags   map[string]string `json:"tags,omitempty"`
}

// Filter changes network filters or HTTP filters.
type Filter struct {
	Operation string       `json:"operation" schema:"enum=Remove|Patch|AddFirst|AddBefore|AddAfter|AddLast"`
	Match     *FilterMatch `json:"match,omitempty"`
	Change
}

// FilterMatch selects filters by name and by their listener.
type FilterMatch struct {
	Origin       *string           `json:"origin,omitempty"`
	Name         *string           `json:"name,omitempty"`
	ListenerName *string           `json:"listenerName,omitempty"`
	ListenerTags map[string]string `json:"listenerTags,omitempty"`
}

// VirtualHost changes virtual hosts.
type VirtualHost struct {
	Operation string    `json:"operation" schema:"enum=Add|Remove|Patch"`
	Match     HostMatch `json:"match"`
	Change
}

// HostMatch selects virtual hosts by name and by their routes.
type HostMatch struct {
	Origin                 *string `json:"origin,omitempty"`
	Name                   *string `json:"name,omitempty"`
	RouteConfigurationName *string `json:"routeConfigurationName,omitempty"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshProxyPatch", Short: "mpp",
	Plural: "meshproxypatches", Single: "meshproxypatch",
	Display: "Mesh Proxy Patch", Displays: "Mesh Proxy Patches",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		return policy.Bodies[Conf]{TargetRef: s.TargetRef, Default: &s.Default}
	},
	Validate: validate,
	// Last of all: what it changes is finished.
	Everywhere: true,
	Outbound:   outbound,
	Cluster:    cluster,
	Served:     served,
	Proxy:      proxy,
})
