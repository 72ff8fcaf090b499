package compile

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// While a crowd of proxies comes, endpoints that are only added wait, and nothing
// else does.
func TestEndpointsWaitForACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		docs := meshService("a", 1) + "\n---\n" + meshService("b", 2)
		for i := range crowdSize + 1 {
			docs += "\n---\n" + workload(fmt.Sprintf("a-%d", i), "a", i+1, everything)
		}
		w.apply(docs)
		p := w.attach(dataplane("a-0"))
		drain(p)
		eds := func() string {
			v, _ := served(t, p, xds.Endpoints, "kri_msvc_default_east__a_http")
			return v
		}
		more := 100
		add := func() {
			more++
			w.apply(workload(fmt.Sprintf("a-%d", more), "a", more, everything))
			w.e.step()
		}

		was := eds()
		if add(); eds() == was || w.e.waits() {
			t.Fatal("an endpoint waits although nobody comes")
		}
		w.check()

		for i := range crowdSize {
			w.e.Attach(dataplane(fmt.Sprintf("a-%d", i+1)))
		}
		w.e.step()
		revision := w.e.Revision()
		drain(p)
		was = eds()
		if add(); eds() != was || !w.e.waits() || woken(p) != "" {
			t.Fatal("an endpoint does not wait for the crowd to be complete")
		}
		if got := w.e.Revision(); got != revision {
			t.Fatalf("everything has revision %d, though an endpoint waits since %d", got, revision)
		}
		w.apply("type: MeshTimeout\nmesh: default\nname: t\nspec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 3s}}]}")
		if w.e.step(); woken(p) == "" || eds() != was {
			t.Fatal("a policy waits with the endpoint")
		}
		if got := p.Set().Revision; got != uint64(revision) {
			t.Fatalf("what is served without the endpoint says revision %d, want %d", got, revision)
		}

		time.Sleep(crowdPause) // virtual: the crowd is complete
		synctest.Wait()
		select {
		case <-w.e.wake:
		default:
			t.Fatal("nobody looks for what waits")
		}
		if w.e.step(); eds() == was || w.e.waits() || w.e.Revision() != w.rev || p.Set().Revision != uint64(w.rev) {
			t.Fatal("the endpoint still waits when the crowd is complete")
		}
		w.check()

		// Many that become ready at once are a crowd too; of one after the other,
		// each is given out at once.
		for range 3 * crowdSize {
			time.Sleep(time.Millisecond)
			was = eds()
			if add(); eds() == was {
				t.Fatal("one endpoint after the other waits")
			}
		}
		docs = ""
		for range crowdSize {
			more++
			docs += "\n---\n" + workload(fmt.Sprintf("a-%d", more), "a", more, everything)
		}
		w.apply(docs[5:])
		was = eds()
		if w.e.step(); eds() != was || !w.e.waits() {
			t.Fatal("many endpoints at once do not wait for more")
		}
		time.Sleep(crowdPause)
		synctest.Wait()
		<-w.e.wake
		if w.e.step(); eds() == was || w.e.waits() {
			t.Fatal("the endpoints still wait when no more come")
		}
		w.check()

		// A crowd without end: endpoints wait as long as is bearable.
		was = eds()
		start := time.Now()
		for n := 0; eds() == was; n++ {
			if time.Since(start) > 2*crowdPatience {
				t.Fatal("endpoints wait for ever")
			}
			for range crowdSize {
				w.e.Attach(dataplane("a-1"))
			}
			add()
			time.Sleep(crowdPause / 2)
		}
		if took := time.Since(start); took < crowdPatience || took > crowdPatience+crowdPause {
			t.Errorf("endpoints waited %v for a crowd, want %v", took, crowdPatience)
		}

		// What goes does not wait, and takes with it what waits.
		for range crowdSize {
			w.e.Attach(dataplane("a-2"))
		}
		add()
		was = eds()
		w.remove(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "a-101"})
		if w.e.step(); eds() == was || w.e.waits() {
			t.Fatal("an endpoint that is gone is still served")
		}
		w.check()
	})
}
