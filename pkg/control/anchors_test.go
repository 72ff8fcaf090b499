package control_test

import (
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// A CA that was replaced is trusted until the last certificate of it has ended,
// also by a control plane that was started meanwhile. What a user trusts besides
// stays.
func TestOldAnchorsLeave(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.apply(kind.MeshIdentity, bundled)
		p.start()
		id := resource.ID{Type: kind.MeshTrust, Mesh: "default", Name: "id"}
		count := func() int {
			return len(resource.SpecOf[kind.MeshTrustSpec](p.get(kind.MeshTrust, "default", "id")).CABundles)
		}
		pair, err := identity.NewCA("default.east.mesh.local", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		p.edit(id, func(o *resource.Object) *resource.Object {
			spec := *resource.SpecOf[kind.MeshTrustSpec](o)
			spec.CABundles = append(spec.CABundles[:1:1], kind.CABundle{Type: kind.BundlePem, Pem: &kind.PemBundle{Value: string(pair.Certificate)}})
			o, err := o.Kind.New(o.Meta, &spec, o.Status)
			if err != nil {
				t.Fatal(err)
			}
			return o
		})
		p.settle()
		p.want("with one of a user", count(), 2)

		p.delete(resource.ID{Type: kind.Secret, Mesh: "default", Name: "id-root-ca"})
		p.settle()
		p.want("after rotation", count(), 3)

		p.pass(identity.DefaultValidity - time.Minute)
		p.want("while certificates live", count(), 3)
		p.stop()
		p.start()
		p.want("after a restart", count(), 3)
		p.pass(2 * time.Hour)
		p.want("when all have ended", count(), 2)
		rev := p.cfg.View.Snapshot().Revision()
		p.pass(24 * time.Hour)
		p.want("and then nothing happens", p.commits(rev), 0)
	})
}
