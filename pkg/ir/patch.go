package ir

import "encoding/json"

// What of Envoy's own messages a Patch changes.
const (
	PatchCluster       = "cluster"
	PatchListener      = "listener"
	PatchNetworkFilter = "networkFilter"
	PatchHTTPFilter    = "httpFilter"
	PatchVirtualHost   = "virtualHost"
)

// Operations of a Patch.
const (
	PatchAdd       = "Add" // a cluster, listener or virtual host
	PatchRemove    = "Remove"
	PatchPatch     = "Patch"
	PatchAddFirst  = "AddFirst" // a filter
	PatchAddLast   = "AddLast"
	PatchAddBefore = "AddBefore"
	PatchAddAfter  = "AddAfter"
)

// Patch is a change that a user writes in terms of Envoy's own messages. It is
// applied to the finished message. What cannot be applied is left out.
type Patch struct {
	Source    string `json:"source"` // who asks for it, for warnings
	Target    string `json:"target"`
	Operation string `json:"operation"`
	// Name of the filter or virtual host; empty: any.
	Name string `json:"name,omitempty"`
	// Value is YAML of a message: a new one, or what is merged.
	Value string          `json:"value,omitempty"`
	JSON  []JSONOperation `json:"json,omitempty"` // instead of Value
}

// JSONOperation is one operation of RFC 6902 on the message as JSON.
type JSONOperation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	From  string          `json:"from,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}
