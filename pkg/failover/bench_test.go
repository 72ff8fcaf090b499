package failover_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/failover"
)

// BenchmarkCheck looks at 200 services in both of two zones, each with ten proxies
// there.
func BenchmarkCheck(b *testing.B) {
	d := sound(b)
	for s := range 200 {
		name := fmt.Sprintf("svc%d", s)
		rename := func(doc string) string { return strings.ReplaceAll(doc, "backend", name) }
		d["join "+name] = rename(d["join"])
		for _, z := range []string{"east", "western"} {
			d["service "+z+name] = rename(service(z, "web"))
			for n := range 10 {
				d[fmt.Sprint("proxy ", z, name, n)] = rename(backend(z, n+1, "web"))
			}
		}
	}
	in := d.inputs(b)
	for b.Loop() {
		if r, err := failover.Check(in, failover.Query{}); err != nil || len(r.Losses) != 402 {
			b.Fatal(err, len(r.Losses))
		}
	}
}
