package kind

import (
	"fmt"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Reasons of the condition Generated of a HostnameGeneratorStatus.
const (
	ConditionGenerated   = "Generated" // also the type of the condition
	ReasonCollision      = "Collision"
	ReasonTemplateError  = "TemplateError"
	OriginOfGeneratedDNS = "HostnameGenerator" // of a HostnameAddress
)

// Selects tells whether the generator names destinations of a type with these
// labels.
func (s *HostnameGeneratorSpec) Selects(t resource.Type, labels map[string]string) bool {
	var by *LabelSelector
	switch t {
	case MeshService:
		by = s.Selector.MeshService
	case MeshExternalService:
		by = s.Selector.MeshExternalService
	case MeshMultiZoneService:
		by = s.Selector.MeshMultiZoneService
	}
	return by != nil && resource.MatchLabels(by.MatchLabels, labels)
}

// HostnameOf makes the name of a destination. zone is the one that o is of when
// it does not say.
func (s *HostnameGeneratorSpec) HostnameOf(o *resource.Object, zone string) (string, error) {
	data := HostnameData{Name: o.Name, DisplayName: o.DisplayName(), Namespace: o.Namespace(), Mesh: o.Mesh, Zone: o.Zone()}
	if data.Namespace != "" {
		data.Name = strings.TrimSuffix(data.Name, "."+data.Namespace)
	}
	if data.Zone == "" {
		data.Zone = zone
	}
	name, err := s.Hostname(data, func(key string) (string, error) {
		v, ok := o.Labels[key]
		if !ok {
			return "", fmt.Errorf("there is no label %s", key)
		}
		return v, nil
	})
	if err == nil && !resource.IsDNS1123Subdomain(name) {
		err = fmt.Errorf("%q is not a DNS name (RFC 1123)", name)
	}
	return name, err
}

// GeneratorTemplate is a HostnameGenerator that every control plane of a sort has.
type GeneratorTemplate struct {
	Name string
	Spec HostnameGeneratorSpec
}

// DefaultGenerators lists the HostnameGenerators that a control plane creates:
// names for what comes from elsewhere are the global's, which sends them to all
// zones; names for its own are a zone's.
func DefaultGenerators(site resource.Site) []GeneratorTemplate {
	by := func(labels ...string) *LabelSelector {
		s := &LabelSelector{MatchLabels: map[string]string{}}
		for i := 0; i < len(labels); i += 2 {
			s.MatchLabels[labels[i]] = labels[i+1]
		}
		return s
	}
	const headless = "k8s.kuma.io/is-headless-service"
	if !site.Global {
		out := []GeneratorTemplate{{"local-mesh-external-service", HostnameGeneratorSpec{
			Selector: GeneratorSelector{MeshExternalService: by(resource.LabelOrigin, resource.OriginZone)},
			Template: "{{ .DisplayName }}.extsvc.mesh.local",
		}}}
		if site.Env == resource.EnvUniversal {
			out = append(out, GeneratorTemplate{"local-universal-mesh-service", HostnameGeneratorSpec{
				Selector: GeneratorSelector{MeshService: by(resource.LabelOrigin, resource.OriginZone)},
				Template: "{{ .DisplayName }}.svc.mesh.local",
			}})
		}
		return out
	}
	kube := func(isHeadless string) *LabelSelector {
		return by(resource.LabelOrigin, resource.OriginGlobal, resource.LabelEnv, resource.EnvKubernetes, headless, isHeadless)
	}
	return []GeneratorTemplate{
		{"synced-mesh-multi-zone-service", HostnameGeneratorSpec{
			Selector: GeneratorSelector{MeshMultiZoneService: by(resource.LabelOrigin, resource.OriginGlobal)},
			Template: "{{ .DisplayName }}.mzsvc.mesh.local",
		}},
		{"synced-kube-mesh-service", HostnameGeneratorSpec{
			Selector: GeneratorSelector{MeshService: kube("false")},
			Template: "{{ .DisplayName }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local",
		}},
		{"synced-headless-kube-mesh-service", HostnameGeneratorSpec{
			Selector: GeneratorSelector{MeshService: kube("true")},
			Template: `{{ label "statefulset.kubernetes.io/pod-name" }}.{{ label "k8s.kuma.io/service-name" }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local`,
		}},
		{"synced-universal-mesh-service", HostnameGeneratorSpec{
			Selector: GeneratorSelector{MeshService: by(resource.LabelOrigin, resource.OriginGlobal, resource.LabelEnv, resource.EnvUniversal)},
			Template: "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local",
		}},
		{"synced-mesh-external-service", HostnameGeneratorSpec{
			Selector: GeneratorSelector{MeshExternalService: by(resource.LabelOrigin, resource.OriginGlobal)},
			Template: "{{ .DisplayName }}.extsvc.mesh.local",
		}},
	}
}
