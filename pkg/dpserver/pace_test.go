package dpserver

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Hundreds of proxies that begin to listen, one every few milliseconds, cost a
// handful of writes; whoever registers meanwhile does not wait, nor does the first
// after a quiet time.
func TestPaceOfWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		z.put(cartService)
		const n = mostStarters
		var sessions []*session
		for i := range n {
			name := fmt.Sprint("cart-", i)
			sessions = append(sessions, z.mustOpen(name, dataplaneJSON(name, fmt.Sprintf("192.0.%d.%d", i/250, 1+i%250)), ""))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		before := z.written()
		for i, s := range sessions {
			s.Delivered(xds.Report{Listening: true, Revision: 1})
			time.Sleep(5 * time.Millisecond)
			if i == 0 {
				synctest.Wait()
				if got := z.callable(); got != 1 {
					t.Fatalf("%d endpoints 5 ms after the first listens", got)
				}
			}
			if i == n/2 {
				begun, writes := time.Now(), z.written()
				z.mustOpen("late", dataplaneJSON("late", "192.0.9.9"), "")
				if took := time.Since(begun); took > 0 || z.written() != writes+1 {
					t.Errorf("a registration took %s and %d writes", took, z.written()-writes)
				}
			}
		}
		if got := z.written() - before; got > 40 {
			t.Errorf("%d proxies cost %d writes", n, got)
		}
		time.Sleep(longest)
		synctest.Wait()
		if got := z.callable(); got != n {
			t.Errorf("%d of %d are endpoints after the last pause", got, n)
		}
		time.Sleep(time.Minute)
		z.mustOpen("late", dataplaneJSON("late", "192.0.9.9"), "").Delivered(xds.Report{Listening: true})
		time.Sleep(shortest)
		synctest.Wait()
		if got := z.callable(); got != n+1 {
			t.Errorf("%d of %d are endpoints after a quiet time", got, n+1)
		}
	})
}
