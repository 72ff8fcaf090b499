package failover_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// large is services in all of some zones, with proxies of them there. Names of
// zones differ in their length, by which the addresses of scenarios do.
func large(b testing.TB, services, zones, proxies int) docs {
	d := sound(b).without("zone", "service", "entrance", "client", "trust", "backend", "ingress")
	for z := range zones {
		zone := "zone" + strings.Repeat("x", z)
		d["zone "+zone], d["entrance "+zone] = "type: Zone\nname: "+zone+"\n", entrance(zone)
		d["client "+zone] = proxy(zone, "client-1", "inbound: [{port: 8080}]")
		d["ingress "+zone+"1"], d["ingress "+zone+"2"] = ingress(zone, 1), ingress(zone, 2)
		for s := range services {
			rename := func(doc string) string { return strings.ReplaceAll(doc, "backend", fmt.Sprint("svc", s)) }
			if z == 0 {
				d[fmt.Sprint("join ", s)] = rename(d["join"])
			}
			d[fmt.Sprint("service ", zone, s)] = rename(service(zone, "web"))
			for n := range proxies {
				if (n+s)%zones == z { // those of a service are in some of the zones
					d[fmt.Sprint("proxy ", zone, s, n)] = rename(backend(zone, n+1, "web"))
				}
			}
		}
	}
	delete(d, "join")
	return d
}

// BenchmarkCheck looks at services in all zones.
func BenchmarkCheck(b *testing.B) {
	for _, size := range []struct{ services, zones, proxies int }{{200, 2, 10}, {100, 10, 2}, {1000, 10, 2}} {
		b.Run(fmt.Sprintf("%dx%dx%d", size.services, size.zones, size.services*size.proxies), func(b *testing.B) {
			in := large(b, size.services, size.zones, size.proxies).live(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := failover.Check(in, failover.Query{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLookout looks again after one proxy came or went, and tells what is
// held for that.
func BenchmarkLookout(b *testing.B) {
	for _, size := range []struct{ services, zones, proxies int }{{50, 3, 9}, {500, 3, 9}} {
		b.Run(fmt.Sprintf("%dx%dx%d", size.services, size.zones, size.services*size.proxies), func(b *testing.B) {
			in := large(b, size.services, size.zones, size.proxies).live(b)
			with := in.Source.(failover.Objects)
			list := with[kind.Dataplane]
			at := slices.IndexFunc(list, func(o *resource.Object) bool { return strings.HasPrefix(o.Name, "svc") })
			without := maps.Clone(with)
			without[kind.Dataplane] = slices.Delete(slices.Clone(list), at, at+1)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			l := &failover.Lookout{}
			l.Check(in, nil, true)
			runtime.GC()
			runtime.ReadMemStats(&after)
			n := 0
			for b.Loop() {
				in.Source = [2]failover.Objects{without, with}[n%2]
				n++
				l.Check(in, []resource.ID{list[at].ID}, false)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-held")
			if l.Rebuilt != 1 {
				b.Errorf("all was found anew %d times", l.Rebuilt)
			}
		})
	}
}
