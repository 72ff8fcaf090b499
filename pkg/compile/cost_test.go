package compile

import (
	"fmt"
	"strings"
	"testing"
)

// What a change of one service costs does not follow from how many others there
// are: memory that is taken is counted, as it does not depend on who else uses the
// processors.
func TestCostOfAChange(t *testing.T) {
	costs := map[string][]float64{}
	const few, many = 20, 600
	service := func(i, vip int) string {
		address := fmt.Sprintf("241.0.%d.%d}", vip/250, vip%250+1)
		return strings.Replace(meshService(fmt.Sprintf("s%d", i), 0), "241.0.0.0}", address, 1)
	}
	for _, services := range []int{few, many} {
		w := newWorld(t)
		w.apply(timeouts(5) + "\n---\n" + workload("a-0", "a", 1, everything))
		for i := range services {
			w.apply(service(i, i))
		}
		i := dataplane("a-0")
		i.TransparentProxy = &TransparentProxy{InboundPort: 15006, OutboundPort: 15001, IPv4Only: true}
		w.attach(i)
		n := 0
		for _, c := range []struct {
			what   string
			change func()
		}{
			{"a policy on one service", func() { w.put(w.decode(timeoutsOfOne(6 + n%2))) }},
			{"a service", func() { w.apply(service(3, 3+700*(n%2))) }},
		} {
			before := w.e.Stats()
			costs[c.what] = append(costs[c.what], testing.AllocsPerRun(40, func() {
				n++
				c.change()
				w.e.step()
			}))
			after := w.e.Stats()
			if all := after.AudiencesCompiled - before.AudiencesCompiled; all == 0 || after.AudiencesFollowed-before.AudiencesFollowed != all {
				t.Fatalf("%s: %d of %d audiences followed", c.what, after.AudiencesFollowed-before.AudiencesFollowed, all)
			}
		}
		w.check()
	}
	for what, c := range costs {
		t.Logf("%s: %.0f allocations with %d services, %.0f with %d", what, c[0], few, c[1], many)
		if c[1] > c[0]*5/4 {
			t.Errorf("%s: %.0f allocations with %d services, %.0f with %d", what, c[0], few, c[1], many)
		}
	}
}
