package control_test

import (
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// A Mesh says whether its zones learn whom the others trust. What a user keeps in
// a zone, and what came from the global, is nobody else's business.
func TestShareTrust(t *testing.T) {
	const (
		unshared = `{"type": "Mesh", "name": "default", "labels": {"atoll.mesh/share-trust": "false"}}`
		trust    = `"spec": {"trustDomain": "d", "caBundles": [{"type": "Pem", "pem": {"value": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}]}}`
		users    = `{"type": "MeshTrust", "mesh": "default", "name": "users", "labels": {"kuma.io/kds-sync": "disabled"}, ` + trust
		synced   = `{"type": "MeshTrust", "mesh": "default", "name": "synced", "labels": {"kuma.io/origin": "global"}, ` + trust
	)
	inBubble(t, federated, func(t *testing.T, p *plane) {
		sync := func(name string) string {
			return p.get(kind.MeshTrust, "default", name).Labels[resource.LabelKDSSync]
		}
		p.apply(kind.Mesh, mesh)
		p.apply(kind.MeshIdentity, bundled)
		p.apply(kind.MeshTrust, users)
		p.receive(kind.MeshTrust, synced)
		p.start()
		p.want("shared", sync("id")+","+sync("users")+","+sync("synced"), ",disabled,")

		p.apply(kind.Mesh, unshared)
		p.settle()
		p.want("turned off", sync("id")+","+sync("users")+","+sync("synced"), "disabled,disabled,")

		p.delete(resource.ID{Type: kind.MeshTrust, Mesh: "default", Name: "id"})
		p.settle()
		p.want("made anew", sync("id"), "disabled")

		p.apply(kind.Mesh, mesh)
		p.settle()
		p.want("turned on", sync("id")+","+sync("users")+","+sync("synced"), ",disabled,")
	})
}
