package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

func TestGenerate(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.start()
		p.apply(kind.Dataplane, dataplane("a-1", "a", http), dataplane("a-2", "a", http+`, {"port": 1, "state": "NotReady"}`),
			dataplane("bad", "not.a.label", http), dataplane("idle", "idle", `{"port": 49151}`),
			`{"mesh": "default", "name": "zp", "labels": {"kuma.io/workload": "zp"}, "networking": {"address": "10.0.0.1", "listeners": [{"type": "ZoneIngress", "address": "10.0.0.1", "port": 1}]}}`,
			`{"mesh": "default", "name": "other", "networking": {"address": "10.0.0.1", "inbound": [{"port": 80}]}}`)
		p.connect("default", "a-1", true)
		p.connect("default", "a-2", false)
		p.settle()
		p.want("made", p.all(kind.Dataplane, kind.DataplaneInsight, kind.Mesh, kind.Zone, kind.Config, kind.Secret, kind.GlobalSecret),
			[]string{"MeshService default/a", "Workload default/a", "Workload default/idle", "Workload default/zp"})

		svc := p.get(kind.MeshService, "default", "a")
		p.want("service labels", svc.Labels, map[string]string{
			"kuma.io/display-name": "a", "kuma.io/env": "universal", "kuma.io/managed-by": "meshservice-generator",
			"kuma.io/mesh": "default", "kuma.io/origin": "zone", "kuma.io/zone": "east",
		})
		p.want("service", specOf(svc), `{"state":"Available","selector":{"dataplaneLabels":{"matchLabels":{"kuma.io/workload":"a"}}},`+
			`"ports":[{"name":"web","port":8080,"targetPort":8080,"appProtocol":"http"}]}`)
		p.want("service status", statusOf(svc), `{"vips":[{"ip":"241.0.0.0"}],"tls":{"status":"NotReady"},"dataplaneProxies":{"connected":1,"healthy":2,"total":2}}`)

		wl := p.get(kind.Workload, "default", "a")
		p.want("workload labels", wl.Labels, map[string]string{
			"kuma.io/env": "universal", "kuma.io/managed-by": "workload-generator", "kuma.io/mesh": "default", "kuma.io/zone": "east",
		})
		p.want("workload status", statusOf(wl), `{"dataplaneProxies":{"connected":1,"healthy":2,"total":2}}`)
		p.want("zone proxy workload", statusOf(p.get(kind.Workload, "default", "zp")), `{"dataplaneProxies":{"connected":0,"healthy":0,"total":1}}`)
		for _, msg := range []string{"no RFC 1035 label", "differs=a-2"} {
			if !strings.Contains(p.log.String(), msg) {
				t.Errorf("the log does not say %q", msg)
			}
		}

		p.apply(kind.Dataplane, dataplane("a-1", "a", `{"port": 8080, "name": "web", "protocol": "http", "state": "NotReady"}`), dataplane("a-2", "b", http))
		p.settle()
		svc = p.get(kind.MeshService, "default", "a")
		if resource.SpecOf[kind.MeshServiceSpec](svc).State != kind.ServiceUnavailable {
			t.Error("a service of which nobody is ready is available")
		}
		p.want("status after a member left", statusOf(svc), `{"vips":[{"ip":"241.0.0.0"}],"tls":{"status":"NotReady"},"dataplaneProxies":{"connected":1,"total":1}}`)
		p.want("the new one", statusOf(p.get(kind.MeshService, "default", "b")), `{"vips":[{"ip":"241.0.0.1"}],"tls":{"status":"NotReady"},"dataplaneProxies":{"healthy":1,"total":1}}`)
	})
}

// TestWorkloadsAlone and TestServiceOfAUser have one job each, so that no other
// brings it to look.
func TestWorkloadsAlone(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.cfg.GenerateServices = false
		p.apply(kind.Mesh, mesh)
		p.start()
		p.apply(kind.Dataplane, dataplane("a-1", "a", http), dataplane("a-2", "a", http))
		p.settle()
		p.apply(kind.Dataplane, dataplane("a-2", "b", http))
		p.settle()
		p.want("after one moved", statusOf(p.get(kind.Workload, "default", "a")), `{"dataplaneProxies":{"connected":0,"healthy":1,"total":1}}`)
		p.delete(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "a-1"})
		p.settle()
		if p.get(kind.Workload, "default", "a") != nil || p.get(kind.Workload, "default", "b") == nil {
			t.Error("Workloads do not follow their Dataplanes")
		}
	})
}

func TestServiceOfAUser(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.apply(kind.MeshService, `{"mesh": "default", "name": "mine", "spec": {"selector": {"dataplaneRef": {"name": "a-1"}}, "ports": [{"port": 80, "targetPort": "web"}]}}`)
		p.start()
		status := func(want string) {
			t.Helper()
			p.settle()
			p.want("status", statusOf(p.get(kind.MeshService, "default", "mine")), `{"vips":[{"ip":"241.0.0.0"}],"tls":{"status":"NotReady"},"dataplaneProxies":{`+want+`}}`)
		}
		status("")
		p.apply(kind.Dataplane, dataplane("a-1", "", http))
		status(`"healthy":1,"total":1`)
		p.connect("default", "a-1", true)
		status(`"connected":1,"healthy":1,"total":1`)
		p.apply(kind.Dataplane, dataplane("a-1", "", `{"port": 8080, "name": "other"}`))
		status(`"connected":1,"total":1`)
		p.delete(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "a-1"})
		status("")
	})
}

func TestGenerateLeavesOthersAlone(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.apply(kind.MeshService, `{"mesh": "default", "name": "a", "spec": {"ports": [{"port": 1}]}}`)
		p.apply(kind.Workload, `{"mesh": "default", "name": "a", "labels": {"kuma.io/managed-by": "me"}}`)
		p.start()
		p.apply(kind.Dataplane, dataplane("a-1", "a", http))
		p.settle()
		svc := p.get(kind.MeshService, "default", "a")
		p.want("service", specOf(svc), `{"state":"Unavailable","selector":{},"ports":[{"port":1,"appProtocol":"tcp"}]}`)
		p.want("its status", statusOf(svc), `{"vips":[{"ip":"241.0.0.0"}],"tls":{"status":"NotReady"},"dataplaneProxies":{}}`)
		p.want("workload status", statusOf(p.get(kind.Workload, "default", "a")), `{"dataplaneProxies":{"connected":0,"healthy":1,"total":1}}`)

		p.delete(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "a-1"})
		p.pass(2 * time.Hour)
		if p.get(kind.MeshService, "default", "a") == nil || p.get(kind.Workload, "default", "a") == nil {
			t.Error("what somebody else manages was deleted")
		}

		p.apply(kind.Dataplane, dataplane("a-1", "a", http))
		p.delete(resource.ID{Type: kind.MeshService, Mesh: "default", Name: "a"})
		p.settle()
		if svc = p.get(kind.MeshService, "default", "a"); svc == nil || svc.Labels[resource.LabelManagedBy] == "" {
			t.Error("the way is free, but nothing was generated")
		}
	})
}

func TestConflictingPorts(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		ports := func() (list []int32) {
			for _, port := range resource.SpecOf[kind.MeshServiceSpec](p.get(kind.MeshService, "default", "a")).Ports {
				list = append(list, port.Port)
			}
			return list
		}
		p.apply(kind.Mesh, mesh)
		p.start()
		p.apply(kind.Dataplane, dataplane("z", "a", `{"port": 1}`))
		p.pass(time.Minute)
		p.apply(kind.Dataplane, dataplane("b", "a", `{"port": 2}`))
		p.settle()
		p.want("the oldest decides, not the first by name", ports(), []int32{1})
		p.apply(kind.Dataplane, dataplane("c", "a", `{"port": 1}`))
		p.settle()
		p.delete(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "z"})
		p.settle()
		p.want("what is there stays while anybody has it", ports(), []int32{1})
		p.delete(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "c"})
		p.settle()
		p.want("then the next", ports(), []int32{2})
	})
}

func TestGracePeriod(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		gone := resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "a-1"}
		p.apply(kind.Mesh, mesh)
		p.apply(kind.Dataplane, dataplane("a-1", "a", http))
		p.start()
		p.delete(gone)
		p.settle()
		svc := p.get(kind.MeshService, "default", "a")
		if _, err := time.Parse(time.RFC3339, svc.Labels[resource.LabelGraceStarted]); err != nil {
			t.Fatalf("no mark: %v", svc.Labels)
		}
		if p.get(kind.Workload, "default", "a") != nil {
			t.Error("a Workload outlives its Dataplanes")
		}
		p.pass(30 * time.Minute)
		p.apply(kind.Dataplane, dataplane("a-1", "a", http))
		p.settle()
		svc = p.get(kind.MeshService, "default", "a")
		if svc.Labels[resource.LabelGraceStarted] != "" || resource.StatusOf[kind.MeshServiceStatus](svc).VIPs[0].IP != "241.0.0.0" {
			t.Errorf("the service did not come back as it was: %s", svc.JSON())
		}
		p.delete(gone)
		p.pass(30 * time.Minute)
		p.stop()
		p.start() // the mark counts, not the memory of a process
		p.pass(28 * time.Minute)
		if p.get(kind.MeshService, "default", "a") == nil {
			t.Error("deleted too early")
		}
		p.pass(3 * time.Minute)
		if p.get(kind.MeshService, "default", "a") != nil {
			t.Error("not deleted in time")
		}
	})
}

// TestBatches has a thousand proxies register in groups, as the store commits
// them, and then a quiet system.
func TestBatches(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.start()
		before := p.cfg.View.Snapshot().Revision()
		for burst := range 50 {
			var ops []store.Op
			for i := range 20 {
				n := burst*20 + i
				dp, err := p.site.Admit(p.parse(kind.Dataplane, dataplane(fmt.Sprintf("dp-%d", n), fmt.Sprintf("svc-%d", n%100), http)), nil)
				if err != nil {
					t.Fatal(err)
				}
				ops = append(ops, store.Put(dp, store.Absent, "test"))
			}
			if _, err := p.store.Write(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
			p.pass(20 * time.Millisecond)
		}
		p.settle()
		s := p.cfg.View.Snapshot()
		if n := s.Count(kind.MeshService, "default"); n != 100 {
			t.Fatalf("%d services", n)
		}
		for o := range s.List(kind.MeshService, "default") {
			if st := resource.StatusOf[kind.MeshServiceStatus](o); st.DataplaneProxies.Total != 10 || len(st.VIPs) != 1 {
				t.Fatalf("%s: %s", o.ID, statusOf(o))
			}
		}
		if n := p.commits(before); n > 12 {
			t.Errorf("a second of registrations cost %d commits", n)
		} else {
			t.Logf("%d commits", n)
		}
		quiet := p.cfg.View.Snapshot().Revision()
		p.pass(10 * time.Hour)
		p.want("revisions of an idle system", p.cfg.View.Snapshot().Revision(), quiet)
	})
}
