package control_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// vips is the address of each MeshService of the default mesh.
func (p *plane) vips() map[string]string {
	m := map[string]string{}
	for o := range p.cfg.View.Snapshot().List(kind.MeshService, "default") {
		m[o.Name] = ""
		if s := resource.StatusOf[kind.MeshServiceStatus](o); s != nil && len(s.VIPs) > 0 {
			m[o.Name] = s.VIPs[0].IP
		}
	}
	return m
}

func service(name string) string {
	return `{"mesh": "default", "name": "` + name + `", "spec": {"ports": [{"port": 80}]}}`
}

// give stores a service that has an address already.
func (p *plane) give(name, ip string) {
	p.t.Helper()
	o := p.parse(kind.MeshService, service(name))
	with, err := o.Kind.New(o.Meta, o.Spec, &kind.MeshServiceStatus{VIPs: []kind.VIP{{IP: ip}}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.edit(o.ID, func(*resource.Object) *resource.Object { return with })
}

func TestAddresses(t *testing.T) {
	inBubble(t, federated, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.give("first", "241.0.0.3")
		p.give("outside", "10.1.2.3")
		p.apply(kind.MeshService, service("b"), service("a"))
		p.receive(kind.MeshService, `{"mesh": "default", "name": "b-fromwest", "labels": {"kuma.io/origin": "global", "kuma.io/zone": "west", "kuma.io/display-name": "b"}, "spec": {"ports": [{"port": 80}]}}`)
		p.start()
		p.want("at start", p.vips(), map[string]string{
			"first": "241.0.0.3", "outside": "10.1.2.3", "a": "241.0.0.4", "b": "241.0.0.5", "b-fromwest": "241.0.0.6",
		})
		remote := p.get(kind.MeshService, "default", "b-fromwest")
		p.want("status of a remote service", statusOf(remote), `{"vips":[{"ip":"241.0.0.6"}],"tls":{},"dataplaneProxies":{}}`)

		p.delete(remote.ID)
		p.settle()
		p.apply(kind.MeshService, service("c"))
		p.settle()
		p.want("an address is not used again at once", p.vips()["c"], "241.0.0.7")
		p.apply(kind.MeshService, service("a"))
		p.settle()
		p.want("writing a service again", p.vips()["a"], "241.0.0.4")
	})
}

func TestAddressesExhausted(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.cfg.ServiceCIDR = netip.MustParsePrefix("241.0.0.0/30")
		p.apply(kind.Mesh, mesh)
		p.start()
		for i := range 6 {
			p.apply(kind.MeshService, service(fmt.Sprintf("s%d", i)))
			p.settle()
		}
		p.want("all are given", p.vips(), map[string]string{
			"s0": "241.0.0.0", "s1": "241.0.0.1", "s2": "241.0.0.2", "s3": "241.0.0.3", "s4": "", "s5": "",
		})
		if n := strings.Count(p.log.String(), "no virtual address is left"); n != 1 {
			t.Errorf("said %d times that none is left", n)
		}
		p.delete(resource.ID{Type: kind.MeshService, Mesh: "default", Name: "s1"})
		p.settle()
		p.apply(kind.MeshService, service("s6"))
		p.settle()
		p.want("one whose service is gone is had again", p.vips()["s6"], "241.0.0.1")
	})
}

func TestAddressesOnKubernetes(t *testing.T) {
	site := resource.Site{Zone: "east", Env: resource.EnvKubernetes}
	inBubble(t, site, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.apply(kind.MeshService, service("local"))
		p.receive(kind.MeshService, `{"mesh": "default", "name": "remote", "labels": {"kuma.io/origin": "global", "kuma.io/zone": "west"}, "spec": {}}`)
		p.apply(kind.Dataplane, dataplane("a-1", "a", http))
		p.start()
		p.want("only remote services need one", p.vips(), map[string]string{"local": "", "remote": "241.0.0.0"})
	})
}
