package control_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const bundled = `{"type": "MeshIdentity", "mesh": "default", "name": "id", "spec": {"selector": {"dataplane": {}},
	"provider": {"type": "Bundled", "bundled": {"insecureAllowSelfSigned": true, "autogenerate": {"enabled": true}}}}}`

func (p *plane) conditions(name string) string {
	var out []string
	status := resource.StatusOf[kind.MeshIdentityStatus](p.get(kind.MeshIdentity, "default", name))
	if status == nil {
		return "none"
	}
	for _, c := range status.Conditions {
		out = append(out, c.Type+"="+c.Status+"/"+c.Reason)
	}
	return strings.Join(out, " ")
}

// An identity gets a CA, which is trusted, and the services of its proxies say
// by whom they are answered. All of it but the trust goes when the identity does.
func TestIdentity(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.apply(kind.Dataplane, dataplane("web-1", "web", http))
		p.start()
		service := func() (string, string) {
			o := p.get(kind.MeshService, "default", "web")
			spec := resource.SpecOf[kind.MeshServiceSpec](o)
			var ids []string
			for _, i := range spec.Identities {
				ids = append(ids, i.Value)
			}
			return resource.StatusOf[kind.MeshServiceStatus](o).TLS.Status, strings.Join(ids, " ")
		}
		tls, ids := service()
		p.want("without identity", tls+ids, "NotReady")

		p.apply(kind.MeshIdentity, bundled)
		p.settle()
		p.want("conditions", p.conditions("id"), "Provider=True/ProviderInitialized MeshTrustCreated=True/MeshTrustCreated Ready=True/Ready")
		trust := p.get(kind.MeshTrust, "default", "id")
		if trust == nil || p.get(kind.Secret, "default", "id-root-ca") == nil || p.get(kind.Secret, "default", "id-private-key") == nil {
			t.Fatalf("CA or trust is missing: %v", p.all())
		}
		p.want("domain", resource.SpecOf[kind.MeshTrustSpec](trust).TrustDomain, "default.east.mesh.local")
		p.want("origin", statusOf(trust), `{"origin":{"kri":"kri_mid_default_east__id_"}}`)
		tls, ids = service()
		p.want("with identity", tls+" "+ids, "Ready spiffe://default.east.mesh.local/workload/web")

		// The service keeps its names while nobody is there.
		p.delete(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "web-1"})
		p.settle()
		tls, ids = service()
		p.want("without proxies", tls+" "+ids, "Ready spiffe://default.east.mesh.local/workload/web")

		// A new CA is trusted beside the old one.
		p.delete(resource.ID{Type: kind.Secret, Mesh: "default", Name: "id-root-ca"})
		p.settle()
		spec := resource.SpecOf[kind.MeshTrustSpec](p.get(kind.MeshTrust, "default", "id"))
		p.want("CAs after rotation", len(spec.CABundles), 2)

		p.delete(resource.ID{Type: kind.MeshIdentity, Mesh: "default", Name: "id"})
		p.settle()
		if p.get(kind.Secret, "default", "id-root-ca") != nil || p.get(kind.Secret, "default", "id-private-key") != nil {
			t.Errorf("the CA outlived its identity")
		}
		if p.get(kind.MeshTrust, "default", "id") == nil {
			t.Errorf("the trust went with the identity: certificates that were issued would be refused at once")
		}
		tls, ids = service()
		p.want("identity gone", tls+ids, "NotReady")
	})
}

// Providers that cannot work say why, and publish no identities.
func TestIdentityConditions(t *testing.T) {
	doc := func(spec string) string {
		return `{"type": "MeshIdentity", "mesh": "default", "name": "id", "spec": {"selector": {"dataplane": {}}` + spec + `}}`
	}
	for name, c := range map[string]struct{ spec, want string }{
		"no provider":      {``, "SpiffeIDProvider=True/SpiffeIDProvided Ready=False/PartiallyReady"},
		"self-signed":      {`, "provider": {"type": "Bundled", "bundled": {"autogenerate": {"enabled": true}}}`, "Provider=False/ProviderValidationError Ready=False/Failure"},
		"unknown":          {`, "provider": {"type": "Extension", "extension": {"name": "x"}}`, "Provider=False/ProviderInitializationError Ready=False/Failure"},
		"bad trust domain": {`, "spiffeID": {"trustDomain": "A b"}, "provider": {"type": "Bundled", "bundled": {"insecureAllowSelfSigned": true, "autogenerate": {"enabled": true}}}`, "Provider=False/ProviderInitializationError Ready=False/Failure"},
		"no such secret": {
			`, "provider": {"type": "Bundled", "bundled": {"ca": {"certificate": {"type": "Secret", "secretRef": {"kind": "Secret", "name": "a"}}, "privateKey": {"type": "Secret", "secretRef": {"kind": "Secret", "name": "b"}}}}}`,
			"Provider=False/ProviderValidationError Ready=False/Failure",
		},
		"spire":    {`, "provider": {"type": "Spire", "spire": {}}`, "Provider=True/ProviderInitialized Ready=True/Ready"},
		"no trust": {`, "provider": {"type": "Bundled", "bundled": {"meshTrustCreation": "Disabled", "insecureAllowSelfSigned": true, "autogenerate": {"enabled": true}}}`, "Provider=True/ProviderInitialized Ready=True/Ready"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, standalone, func(t *testing.T, p *plane) {
				p.apply(kind.Mesh, mesh)
				p.apply(kind.MeshIdentity, doc(c.spec))
				p.start()
				p.want("conditions", p.conditions("id"), c.want)
				if trust := p.get(kind.MeshTrust, "default", "id"); trust != nil {
					t.Errorf("a MeshTrust was made: %s", trust.JSON())
				}
			})
		})
	}
}

// A CA that cannot be read any more takes nobody's identity: proxies would talk in
// the clear. An identity that never had one gives none.
func TestCAGoesAway(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.apply(kind.Dataplane, dataplane("web-1", "web", http))
		p.apply(kind.MeshIdentity, bundled)
		p.start()
		p.want("at first", p.conditions("id"), "Provider=True/ProviderInitialized MeshTrustCreated=True/MeshTrustCreated Ready=True/Ready")
		provided := strings.Replace(bundled, `"autogenerate": {"enabled": true}`, `"ca": {"certificate": {"type": "Secret", "secretRef": {"kind": "Secret", "name": "gone"}}, "privateKey": {"type": "Secret", "secretRef": {"kind": "Secret", "name": "gone"}}}`, 1)
		if provided == bundled {
			t.Fatal("the identity has no autogenerated CA")
		}
		p.apply(kind.MeshIdentity, provided)
		p.settle()
		p.want("without CA", p.conditions("id"), "Provider=False/ProviderValidationError Ready=True/CAUnavailable")
		service := p.get(kind.MeshService, "default", "web")
		p.want("TLS of the service", resource.StatusOf[kind.MeshServiceStatus](service).TLS.Status, kind.TLSReady)
		p.apply(kind.MeshIdentity, bundled)
		p.settle()
		p.want("with CA", p.conditions("id"), "Provider=True/ProviderInitialized MeshTrustCreated=True/MeshTrustCreated Ready=True/Ready")
	})
}

// A global issues nothing and makes no CA.
func TestIdentityOnGlobal(t *testing.T) {
	inBubble(t, global, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.apply(kind.MeshIdentity, bundled)
		p.start()
		p.want("conditions", p.conditions("id"), "none")
	})
}

// Steps of one change wait for nothing: a service is ready for its identity, which
// needs a CA, which has to be trusted, in the instant in which the identity comes.
func TestIdentityAtOnce(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.apply(kind.Dataplane, dataplane("web-1", "web", http))
		p.start()
		p.apply(kind.MeshIdentity, bundled)
		synctest.Wait()
		status := resource.StatusOf[kind.MeshServiceStatus](p.get(kind.MeshService, "default", "web"))
		p.want("TLS without a pause", status.TLS.Status, "Ready")
	})
}
