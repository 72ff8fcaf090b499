package dpserver

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// TestBlame names the policies that may have caused a rejection, in the insight.
func TestBlame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := func(typ resource.Type, name string, version uint64) *resource.Object {
			o, err := (&resource.Kind{Names: resource.Names{Type: typ, Short: "x"}, Scope: resource.ScopeMesh}).New(
				resource.Meta{ID: resource.ID{Mesh: "shop", Name: name}, Version: version}, &struct{}{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		looked := 0
		shaped := []*resource.Object{policy("MeshTimeout", "new", 9), policy("MeshProxyPatch", "patch", 3), policy("MeshTimeout", "old", 2)}
		z := newZone(t, func(c *Config) {
			c.Shaping = func(_ *view.Snapshot, _ compile.ProxyInfo, _ xds.Type, name, version string) ([]*resource.Object, bool) {
				looked++
				return shaped, version != "gone"
			}
		})
		refuse := func(s *session, revision uint64, version string) []kind.Rejection {
			t.Helper()
			var r xds.Report
			r.Revision = revision
			r.Types[xds.Listeners].Rejected = 1
			r.Rejections = []xds.Rejection{{Type: xds.Listeners, Name: "a", Version: version, Error: strings.Repeat("bad", 1000), Since: time.Now()}}
			s.Delivered(r)
			synctest.Wait()
			return kind.RejectionsOf(z.insight(s.proxy.ID.Name))
		}
		fresh, tried := z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), ""), z.mustOpen("cart-2", dataplaneJSON("cart-2", "192.0.2.2"), "")
		tried.Delivered(xds.Report{Revision: 5})
		synctest.Wait()

		got := refuse(fresh, 0, "1")
		if len(got) != 1 || !slices.Equal(got[0].Policies, []string{"kri_x_shop___patch_"}) || got[0].Type != "lds" || len(got[0].Error) > maxWords+4 {
			t.Errorf("a proxy that accepted nothing before: %+v", got)
		}
		if got := refuse(tried, 9, "1"); len(got) != 1 || !slices.Equal(got[0].Policies, []string{"kri_x_shop___new_"}) {
			t.Errorf("a proxy that accepted revision 5: %+v", got)
		}
		if looked != 1 {
			t.Errorf("what two proxies refuse was looked at %d times", looked)
		}
		shaped = shaped[2:]
		if got := refuse(tried, 10, "2"); len(got) != 1 || len(got[0].Policies) != 0 {
			t.Errorf("no policy changed: %+v", got)
		}
		if got := refuse(fresh, 10, "2"); len(got) != 1 || !slices.Equal(got[0].Policies, []string{"kri_x_shop___old_"}) {
			t.Errorf("a proxy that accepted nothing before, without patches: %+v", got)
		}
		if got := refuse(fresh, 11, "gone"); len(got) != 1 || len(got[0].Policies) != 0 {
			t.Errorf("what is not wanted any more: %+v", got)
		}
		fresh.Delivered(xds.Report{Revision: 12})
		synctest.Wait()
		if got := kind.RejectionsOf(z.insight("cart-1")); got != nil {
			t.Errorf("after acceptance: %+v", got)
		}
		tried.Close(nil)
		synctest.Wait()
		if got := kind.RejectionsOf(z.insight("cart-2")); got != nil {
			t.Errorf("of a proxy that is gone: %+v", got)
		}
	})
}
