package dpserver

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// given is an attachment for which something is compiled.
type given struct {
	*attachment
	set atomic.Pointer[xds.Set]
}

func (g *given) Set() *xds.Set { return g.set.Load() }

// Proxies follow a change of traffic once they have acknowledged what was made of
// it, whatever comes after that.
func TestFollowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var compiled atomic.Uint64
		sets := map[string]*given{}
		var z *zone
		z = newZone(t, func(c *Config) {
			c.Compiled = func() store.Revision { return store.Revision(compiled.Load()) }
			c.Attach = func(info compile.ProxyInfo) Attachment {
				g := &given{attachment: &attachment{z: z, id: info.ID}}
				sets[info.ID.Name] = g
				return g
			}
		})
		cart, shelf := z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), ""), z.mustOpen("shelf-1", dataplaneJSON("shelf-1", "192.0.2.2"), "")
		delivered := func(s *session, revision uint64) { s.Delivered(xds.Report{Revision: revision}) }
		sets["cart-1"].set.Store(xds.NewSet(1))
		delivered(cart, 1)
		mark := ""
		want := func(what string, connected, behind int) {
			t.Helper()
			if got := z.Following("west", mark); got.Connected != connected || got.Behind != behind {
				t.Errorf("%s: %d of %d are behind, want %d of %d", what, got.Behind, got.Connected, behind, connected)
			}
		}
		traffic := func(share int32) *resource.Object {
			k := z.cfg.Kinds.ByType(kind.ZoneTraffic)
			o, err := k.New(resource.Meta{ID: resource.ID{Type: kind.ZoneTraffic, Name: "west"}, Labels: map[string]string{}}, &kind.ZoneTrafficSpec{Share: share}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		o := traffic(0)
		mark = kind.TrafficMark(o)
		want("the zone was not told yet", 2, 2)
		z.write(store.Put(o, store.Absent, "test"))
		synctest.Wait()
		want("nothing is compiled yet", 2, 2)
		head := uint64(z.cfg.View.Snapshot().Revision())
		compiled.Store(head)
		want("one needs nothing, the other has nothing at all", 2, 1)
		sets["shelf-1"].set.Store(xds.NewSet(head))
		want("it has not acknowledged", 2, 1)
		sets["shelf-1"].set.Store(xds.NewSet(head + 9))
		delivered(shelf, head)
		want("it has, and gets something else", 2, 0)

		// A proxy that connects again has to acknowledge what it is given.
		cart.Close(nil)
		cart = z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), "")
		sets["cart-1"].set.Store(xds.NewSet(head))
		want("connected again", 2, 1)
		delivered(cart, head)
		want("and followed", 2, 0)

		// The next step is another one.
		o = traffic(25)
		mark = kind.TrafficMark(o)
		z.write(store.Put(o, store.Any, "test"))
		synctest.Wait()
		want("another step", 2, 2)
	})
}
