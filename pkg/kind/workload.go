package kind

import "github.com/atoll-mesh/atoll/pkg/resource"

// WorkloadSpec is empty: a Workload is its name and what is observed of it.
type WorkloadSpec struct{}

// WorkloadStatus is what the control plane observes of a Workload's proxies.
type WorkloadStatus struct {
	DataplaneProxies WorkloadProxies `json:"dataplaneProxies,omitempty"`
}

// WorkloadProxies counts the proxies of a Workload.
type WorkloadProxies struct {
	// Connected proxies have a control plane that serves them.
	Connected int32 `json:"connected"`
	// Healthy proxies have at least one inbound that is ready.
	Healthy int32 `json:"healthy"`
	Total   int32 `json:"total"`
}

func workloadKind() *resource.Kind {
	return resource.Define[WorkloadSpec, WorkloadStatus](resource.Kind{
		Names: resource.Names{
			Type: Workload, Plural: "workloads", Single: "workload", Short: "wl",
			Display: "Workload", Displays: "Workloads",
		},
		Scope: resource.ScopeMesh,
		Flows: resource.ZoneToGlobal,
		Validate: func(o *resource.Object) resource.FieldErrors {
			var errs resource.FieldErrors
			if len(o.Name) > 253 {
				errs.Add("name", "must be at most 253 characters long")
			}
			return errs
		},
	})
}
