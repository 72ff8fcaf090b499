package identity_test

import (
	"testing"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// A zone vouches for its own trust domain and for those that it shares, not for
// that of another zone.
func TestMayVouch(t *testing.T) {
	zone := func(name string) *resource.Object {
		return &resource.Object{Meta: resource.Meta{ID: resource.ID{Type: kind.Zone, Name: name}}}
	}
	ofZone := func(name string) string {
		return `"kuma.io/origin": "zone", "kuma.io/zone": "` + name + `"`
	}
	src := snapshot{
		zone("east"), zone("west"),
		meshIdentity(t, "each", ``, `{}`), // m.<zone>.mesh.local
		meshIdentity(t, "all", ``, `{"spiffeID": {"trustDomain": "example.org"}}`),
		meshIdentity(t, "easts", ofZone("east"), `{"spiffeID": {"trustDomain": "east.example"}}`),
		// That west says so does not entitle it to what the global gave to east.
		meshIdentity(t, "copy", ofZone("west"), `{"spiffeID": {"trustDomain": "m.east.mesh.local"}}`),
	}
	for _, c := range []struct {
		zone, domain string
		ok           bool
	}{
		{"east", "m.east.mesh.local", true},
		{"west", "m.west.mesh.local", true},
		{"east", "example.org", true},
		{"west", "example.org", true},
		{"east", "east.example", true},
		{"west", "nobodys.example", true},
		{"west", "m.east.mesh.local", false},
		{"east", "m.west.mesh.local", false},
		{"west", "east.example", false},
	} {
		k := kinds.ByType(kind.MeshTrust)
		trust, err := k.New(resource.Meta{ID: resource.ID{Type: kind.MeshTrust, Mesh: "m", Name: "x"}}, &kind.MeshTrustSpec{TrustDomain: c.domain}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := identity.MayVouch(src, c.zone, trust); (err == nil) != c.ok {
			t.Errorf("zone %s, domain %s: %v", c.zone, c.domain, err)
		}
	}
	if err := identity.MayVouch(src, "west", src[2]); err != nil {
		t.Errorf("a MeshIdentity: %v", err)
	}
}
