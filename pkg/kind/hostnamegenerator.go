package kind

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// HostnameGeneratorSpec gives host names to the destinations that it selects.
type HostnameGeneratorSpec struct {
	// Selector has exactly one member.
	Selector GeneratorSelector `json:"selector,omitempty"`
	// Template is a Go template of the host name.
	Template string `json:"template"`
	// Extension has another program decide.
	Extension *GeneratorExtension `json:"extension,omitempty"`
}

// GeneratorSelector selects destinations of one kind. An empty selector selects
// all of the kind.
type GeneratorSelector struct {
	MeshService          *LabelSelector `json:"meshService,omitempty"`
	MeshExternalService  *LabelSelector `json:"meshExternalService,omitempty"`
	MeshMultiZoneService *LabelSelector `json:"meshMultiZoneService,omitempty"`
}

// GeneratorExtension names a program and what it needs to know.
type GeneratorExtension struct {
	Type   string `json:"type"`
	Config any    `json:"config,omitempty"`
}

func hostnameGeneratorKind() *resource.Kind {
	return resource.Define[HostnameGeneratorSpec, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: HostnameGenerator, Plural: "hostnamegenerators", Single: "hostnamegenerator", Short: "hg",
			Display: "Hostname Generator", Displays: "Hostname Generators",
		},
		Scope:    resource.ScopeGlobal,
		Flows:    resource.GlobalToZone | resource.ZoneToGlobal,
		Validate: validateHostnameGenerator,
	})
}

func validateHostnameGenerator(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[HostnameGeneratorSpec](o)
	n := 0
	for _, s := range []*LabelSelector{spec.Selector.MeshService, spec.Selector.MeshExternalService, spec.Selector.MeshMultiZoneService} {
		if s != nil {
			n++
		}
	}
	if n != 1 {
		errs.Add("spec.selector", "must have exactly one of meshService, meshExternalService and meshMultiZoneService")
	}
	sample := HostnameData{Name: "name", DisplayName: "displayname", Namespace: "namespace", Mesh: "mesh", Zone: "zone"}
	name, err := spec.Hostname(sample, func(string) (string, error) { return "label", nil })
	switch {
	case err != nil:
		errs.Add("spec.template", "%s", err.Error())
	case !resource.IsDNS1123Subdomain(name):
		errs.Add("spec.template", "must make a DNS name (RFC 1123), not %q", name)
	}
	if spec.Extension != nil && spec.Extension.Type == "" {
		errs.Add("spec.extension.type", "must not be empty")
	}
	return errs
}

// HostnameData is what a template may say about a destination.
type HostnameData struct{ Name, DisplayName, Namespace, Mesh, Zone string }

// Hostname makes the name of a destination; label returns one of its labels, and
// an error when it has none of that key.
func (s *HostnameGeneratorSpec) Hostname(d HostnameData, label func(key string) (string, error)) (string, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"label": label}).Parse(s.Template)
	if err != nil {
		return "", fmt.Errorf("not a template: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, d); err != nil {
		return "", fmt.Errorf("cannot be rendered: %w", err)
	}
	return b.String(), nil
}
