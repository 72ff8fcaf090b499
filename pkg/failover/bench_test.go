package failover_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/failover"
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
