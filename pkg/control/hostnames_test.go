package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// addressesOf lists the host names of a MeshService in the order of its status.
func addressesOf(p *plane, name string) string {
	p.t.Helper()
	s := resource.StatusOf[kind.MeshServiceStatus](p.get(kind.MeshService, "default", name))
	if s == nil {
		return ""
	}
	var out []string
	for _, a := range s.Addresses {
		out = append(out, a.Hostname)
	}
	return strings.Join(out, " ")
}

// reasonOf is what a MeshService's status says about a generator.
func reasonOf(p *plane, name, generator string) string {
	p.t.Helper()
	s := resource.StatusOf[kind.MeshServiceStatus](p.get(kind.MeshService, "default", name))
	if s == nil {
		return ""
	}
	for _, g := range s.HostnameGenerators {
		if g.HostnameGeneratorRef.CoreName == generator {
			return g.Conditions[0].Status + " " + g.Conditions[0].Reason
		}
	}
	return ""
}

func TestHostnamesFollowGeneratorsAndServices(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.cfg.HostnameGenerators = true
		p.apply(kind.Mesh, mesh)
		service := func(name, labels string) {
			p.apply(kind.MeshService, `{"mesh":"default","name":"`+name+`","labels":{"kuma.io/origin":"zone"`+labels+`},"spec":{"ports":[{"port":80}]}}`)
			<-time.After(time.Second) // the next one is younger
		}
		service("a", "")
		p.start()
		if got := addressesOf(p, "a"); got != "a.svc.mesh.local" {
			t.Fatalf("with the default generators: %q", got)
		}
		// Both services get the same name of this generator; the older one keeps it.
		service("b", `,"team":"x"`)
		p.apply(kind.HostnameGenerator, `{"name":"same","labels":{"kuma.io/origin":"zone"},"spec":{"selector":{"meshService":{}},"template":"all.example"}}`)
		p.settle()
		if got := addressesOf(p, "a"); got != "a.svc.mesh.local all.example" {
			t.Errorf("a: %q", got)
		}
		if got := addressesOf(p, "b"); got != "b.svc.mesh.local" {
			t.Errorf("b: %q", got)
		}
		if got := reasonOf(p, "b", "same"); got != "False Collision" {
			t.Errorf("b about the generator: %q", got)
		}
		// A label that is missing is told where it matters only.
		p.apply(kind.HostnameGenerator, `{"name":"team","labels":{"kuma.io/origin":"zone"},"spec":{"selector":{"meshService":{}},"template":"{{ .DisplayName }}.{{ label \"team\" }}.example"}}`)
		p.settle()
		if got := reasonOf(p, "a", "team"); got != "False TemplateError" {
			t.Errorf("a without the label: %q", got)
		}
		if got := addressesOf(p, "b"); got != "b.svc.mesh.local b.x.example" {
			t.Errorf("b with the label: %q", got)
		}
		// The name is free once its owner is gone.
		p.delete(resource.ID{Type: kind.MeshService, Mesh: "default", Name: "a"})
		p.settle()
		if got := addressesOf(p, "b"); got != "b.svc.mesh.local all.example b.x.example" && got != "all.example b.svc.mesh.local b.x.example" {
			t.Errorf("b alone: %q", got)
		}
		// And without generators there are no names.
		for _, g := range []string{"same", "team", "local-universal-mesh-service"} {
			p.delete(resource.ID{Type: kind.HostnameGenerator, Mesh: "", Name: g})
		}
		p.settle()
		if got := addressesOf(p, "b"); got != "" {
			t.Errorf("b without generators: %q", got)
		}
	})
}

func TestDefaultGeneratorsOfAGlobal(t *testing.T) {
	inBubble(t, global, func(t *testing.T, p *plane) {
		p.cfg.HostnameGenerators = true
		own := `{"selector":{"meshService":{"matchLabels":{"mine":"yes"}}},"template":"mine.example"}`
		p.apply(kind.HostnameGenerator, `{"name":"synced-universal-mesh-service","spec":`+own+`}`)
		p.start()
		for _, g := range kind.DefaultGenerators(global) {
			o := p.get(kind.HostnameGenerator, "", g.Name)
			if o == nil {
				t.Errorf("there is no %s", g.Name)
			} else if errs := o.Kind.Validate(o); len(errs) > 0 {
				t.Errorf("%s: %v", g.Name, errs)
			}
		}
		o := p.get(kind.HostnameGenerator, "", "synced-universal-mesh-service")
		if got := resource.SpecOf[kind.HostnameGeneratorSpec](o).Template; got != "mine.example" {
			t.Errorf("a generator that a user wrote became %q", got)
		}
	})
}
