package rest

import (
	"net/http"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// writable tells whether resources of a kind may be written in this control
// plane, or why not.
func (a *API) writable(k *resource.Kind) error {
	refuse := func(reason string) error {
		return &problem{http.StatusMethodNotAllowed, "Method not allowed", reason, nil}
	}
	switch {
	case a.ReadOnly:
		return refuse("this API is read-only (apiServer.readOnly): write with the tools of the platform, such as kubectl")
	case k.ReadOnly:
		return refuse(k.Display + " is written by control planes only")
	case a.Site.Global && k.Flows.Has(resource.ZoneToGlobal) && !k.Flows.Has(resource.GlobalToZone):
		return refuse("resources of type " + string(k.Type) + " belong to zones: write them at the control plane of their zone")
	case a.Site.Federated && k.Flows.Has(resource.GlobalToZone) && !k.Flows.Has(resource.ZoneToGlobal) && !k.AdminOnly:
		return refuse("resources of type " + string(k.Type) + " belong to the global control plane: write them there")
	}
	return nil
}

// checkRequest returns every violation of what a request says about a resource,
// apart from its spec. What it finds does not depend on what is stored.
func (a *API) checkRequest(k *resource.Kind, sent resource.Meta, id resource.ID) resource.FieldErrors {
	var errs resource.FieldErrors
	if sent.Type != id.Type {
		errs.Add("type", "must be %q, as the path says", id.Type)
	}
	a.checkName(&errs, sent.Name, id.Name)
	if k.Scope == resource.ScopeMesh { // others may be sent with a mesh, which means nothing
		if sent.Mesh == "" && !k.Proto {
			sent.Mesh = "default"
		}
		switch {
		case sent.Mesh != id.Mesh:
			errs.Add("mesh", "must be %q, as the path says", id.Mesh)
		case !resource.IsMeshName(sent.Mesh):
			errs.Add("mesh", "must consist of lower case letters, digits, '-', '_' and '.', at most 253")
		}
	}
	a.checkLabels(&errs, k, sent.Labels, id.Mesh)
	return errs
}

func (a *API) checkName(errs *resource.FieldErrors, name, inPath string) {
	switch {
	case name == "":
		errs.Add("name", "cannot be empty")
		return
	case name != inPath:
		errs.Add("name", "must be %q, as the path says", inPath)
	}
	if !resource.IsDNS1123Subdomain(name) {
		errs.Add("name", "must be a lower case RFC 1123 subdomain: letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253")
	}
	if a.Site.Federated && len(a.Site.Zone)+1+len(name) >= 253 {
		errs.Add("name", "together with the zone's name must be shorter than 253")
	}
}

func (a *API) checkLabels(errs *resource.FieldErrors, k *resource.Kind, labels map[string]string, mesh string) {
	for key, value := range labels {
		if !resource.IsLabelKey(key) {
			errs.Add(resource.LabelPath(key), "is no valid key: an optional DNS name and '/', then at most 63 letters, digits, '-', '_' and '.'")
		}
		if !resource.IsLabelValue(value) {
			errs.Add(resource.LabelPath(key), "value must be at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit")
		}
	}
	origin, hasOrigin := labels[resource.LabelOrigin]
	if !a.DisableOriginValidation {
		path := resource.LabelPath(resource.LabelOrigin)
		switch {
		case hasOrigin && origin != resource.OriginGlobal && origin != resource.OriginZone:
			errs.Add(path, "must be %q or %q", resource.OriginGlobal, resource.OriginZone)
		case a.Site.Global && hasOrigin && origin != resource.OriginGlobal:
			errs.Add(path, "must be %q at a global control plane", resource.OriginGlobal)
		case a.Site.Federated && !k.Proto && origin != resource.OriginZone:
			errs.Add(path, "the origin label must be set to %q", resource.OriginZone)
		}
	}
	if !a.Site.Global && origin != resource.OriginGlobal {
		if zone, ok := labels[resource.LabelZone]; ok && zone != a.Site.Zone {
			errs.Add(resource.LabelPath(resource.LabelZone), "must be %q, the name of this zone", a.Site.Zone)
		}
		if m, ok := labels[resource.LabelMesh]; ok && k.Scope == resource.ScopeMesh && m != mesh {
			errs.Add(resource.LabelPath(resource.LabelMesh), "must be %q, the mesh of the resource", mesh)
		}
	}
	if role, ok := labels[resource.LabelPolicyRole]; ok && k.Policy != nil && role != "system" {
		errs.Add(resource.LabelPath(resource.LabelPolicyRole), "must be %q", "system")
	}
}

// checkWorkload is the rule for the workload label of a new Dataplane.
func (a *API) checkWorkload(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	workload, ok := o.Labels[resource.LabelWorkload]
	if !ok || o.Type != kind.Dataplane || a.Site.Env == resource.EnvKubernetes {
		return nil
	}
	path := resource.LabelPath(resource.LabelWorkload)
	switch {
	case a.Site.Global:
		errs.Add(path, "cannot be set at a global control plane")
	case !resource.IsDNS1035Label(workload):
		errs.Add(path, "must be an RFC 1035 label: at most 63 lower case letters, digits or '-', starting with a letter")
	}
	return errs
}

// checkDelete refuses to delete what belongs to another control plane.
func (a *API) checkDelete(o *resource.Object) resource.FieldErrors {
	if a.DisableOriginValidation || a.Site.LocallyOriginated(o.Labels) {
		return nil
	}
	var errs resource.FieldErrors
	path := resource.LabelPath(resource.LabelOrigin)
	switch {
	case a.Site.Global:
		errs.Add(path, "the resource comes from zone %q: delete it there", o.Zone())
	case a.Site.Federated && !o.Kind.Proto:
		errs.Add(path, "the resource comes from the global control plane: delete it there")
	}
	return errs
}
