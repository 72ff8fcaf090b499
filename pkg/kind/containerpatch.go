package kind

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// ContainerPatchSpec changes what is injected into pods: the container of the
// proxy, and the one that prepares the pod for it.
type ContainerPatchSpec struct {
	// SidecarPatch is applied to the container of the proxy, in order.
	SidecarPatch []ContainerOperation `json:"sidecarPatch,omitempty"`
	// InitPatch is applied to the init container, in order.
	InitPatch []ContainerOperation `json:"initPatch,omitempty"`
}

// ContainerOperation is one operation of JSON Patch (RFC 6902) on a container of
// a pod. Parents that are missing are created by add.
type ContainerOperation struct {
	Op string `json:"op" schema:"enum=add|remove|replace|move|copy"`
	// Path is a JSON pointer such as /securityContext/privileged.
	Path string `json:"path"`
	// Value is JSON as text: "true", or "{\"name\": \"x\"}".
	Value *string `json:"value,omitempty"`
	// From is the JSON pointer that move and copy take the value from.
	From *string `json:"from,omitempty"`
}

func containerPatchKind() *resource.Kind {
	return resource.Define[ContainerPatchSpec, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: ContainerPatch, Plural: "containerpatches", Single: "containerpatch",
			Display: "Container Patch", Displays: "Container Patches",
		},
		Scope: resource.ScopeGlobal,
		Flows: resource.GlobalToZone,
		// In the reference it exists in clusters only, and is neither synced nor served.
		Native:   true,
		Validate: validateContainerPatch,
		Warnings: func(*resource.Object) []string {
			return []string{"ContainerPatches change pods when they are injected: they have an effect in zones on Kubernetes only"}
		},
	})
}

func validateContainerPatch(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[ContainerPatchSpec](o)
	for name, list := range map[string][]ContainerOperation{"sidecarPatch": spec.SidecarPatch, "initPatch": spec.InitPatch} {
		for i := range list {
			list[i].validate(&errs, fmt.Sprintf("spec.%s[%d]", name, i))
		}
	}
	return errs
}

func (c *ContainerOperation) validate(errs *resource.FieldErrors, p string) {
	pointer := func(field, text string) {
		if !strings.HasPrefix(text, "/") {
			errs.Add(p+"."+field, "must be a JSON pointer, which begins with /")
		}
	}
	pointer("path", c.Path)
	switch c.Op {
	case "add", "replace":
		switch {
		case c.Value == nil:
			errs.Add(p+".value", "must be set for op %s", c.Op)
		case !json.Valid([]byte(*c.Value)):
			errs.Add(p+".value", "must be JSON as text; a string needs quotes of its own: %q", `"`+*c.Value+`"`)
		}
	case "move", "copy":
		if c.From == nil {
			errs.Add(p+".from", "must be set for op %s", c.Op)
		} else {
			pointer("from", *c.From)
		}
	}
}
