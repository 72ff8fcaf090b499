package control_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func (p *plane) wantEssentials() {
	p.cfg.DefaultMesh, p.cfg.UserTokenKey = true, true
	p.cfg.IssueAdminToken = func() (string, error) {
		o := p.get(kind.GlobalSecret, "", "user-token-signing-key-1")
		if o == nil {
			return "", errors.New("no key")
		}
		return "signed with " + string(resource.SpecOf[system_proto.Secret](o).GetData().GetValue()), nil
	}
}

func TestEssentials(t *testing.T) {
	for name, c := range map[string]struct {
		site resource.Site
		want []string
	}{
		"global": {global, []string{
			"Config kuma-cluster-id", "GlobalSecret admin-user-token", "GlobalSecret user-token-signing-key-1",
			"GlobalSecret zone-token-signing-key-1", "Mesh default", "MeshTimeout default/mesh-timeout-all-default",
			"Secret default/dataplane-token-signing-key-default-1",
		}},
		"standalone": {standalone, []string{
			"Config kuma-cluster-id", "GlobalSecret admin-user-token", "GlobalSecret user-token-signing-key-1",
			"GlobalSecret zone-token-signing-key-1", "Mesh default", "MeshTimeout default/mesh-timeout-all-default",
			"Secret default/dataplane-token-signing-key-default-1", "Zone east",
		}},
		"federated": {federated, []string{"GlobalSecret admin-user-token", "GlobalSecret user-token-signing-key-1", "Zone east"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, c.site, func(t *testing.T, p *plane) {
				p.wantEssentials()
				if c.site.Federated {
					p.cfg.DefaultMesh = false
				}
				p.start()
				p.want("made", p.all(), c.want)
				token := resource.SpecOf[system_proto.Secret](p.get(kind.GlobalSecret, "", "admin-user-token"))
				if got := string(token.GetData().GetValue()); got[:len("signed with key")] != "signed with key" {
					t.Errorf("admin token %q", got)
				}
				p.stop()
				rev := p.cfg.View.Snapshot().Revision()
				p.start()
				p.want("revision after a second start", p.cfg.View.Snapshot().Revision(), rev)
			})
		})
	}
}

func TestEssentialsStayDeleted(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.wantEssentials()
		p.receive(kind.Zone, `{"name": "formerly"}`)
		p.start()
		if p.get(kind.Zone, "", "formerly") != nil {
			t.Error("the Zone of a former name remains")
		}
		policy := p.get("MeshTimeout", "default", "mesh-timeout-all-default")
		p.want("labels of a default policy", policy.Labels, map[string]string{
			"kuma.io/display-name": policy.Name, "kuma.io/env": "universal", "kuma.io/mesh": "default", "kuma.io/origin": "zone", "kuma.io/zone": "east",
		})
		p.delete(policy.ID)
		p.receive(kind.GlobalSecret, `{"name": "zone-token-signing-key-2", "data": "eA=="}`)
		p.delete(resource.ID{Type: kind.GlobalSecret, Name: "zone-token-signing-key-1"})
		p.receive(kind.Secret, `{"mesh": "default", "name": "dataplane-token-signing-key-default-2", "data": "eA=="}`)
		p.delete(resource.ID{Type: kind.Secret, Mesh: "default", Name: "dataplane-token-signing-key-default-1"})
		p.stop()
		p.start()
		p.want("after a rotation", p.all(), []string{
			"Config kuma-cluster-id", "GlobalSecret admin-user-token", "GlobalSecret user-token-signing-key-1", "GlobalSecret zone-token-signing-key-2",
			"Mesh default", "Secret default/dataplane-token-signing-key-default-2", "Zone east",
		})
	})
}

// TestKeyOfAFederatedZone: a zone signs dataplane tokens with a key of its own,
// unless it got one that it can sign with.
func TestKeyOfAFederatedZone(t *testing.T) {
	inBubble(t, federated, func(t *testing.T, p *plane) {
		p.receive(kind.Mesh, `{"name": "shop", "labels": {"kuma.io/origin": "global"}}`)
		p.receive(kind.Secret, `{"mesh": "shop", "name": "dataplane-token-signing-public-key-shop-1", "data": "eA==", "labels": {"kuma.io/origin": "global"}}`)
		p.receive(kind.Secret, `{"mesh": "stock", "name": "dataplane-token-signing-key-stock-1", "data": "eA==", "labels": {"kuma.io/origin": "global"}}`)
		p.receive(kind.Mesh, `{"name": "stock", "labels": {"kuma.io/origin": "global"}}`)
		own := fmt.Sprintf("Secret shop/dataplane-token-signing-key-shop-%d", time.Now().Unix())
		p.start()
		secrets := []string{own, "Secret shop/dataplane-token-signing-public-key-shop-1", "Secret stock/dataplane-token-signing-key-stock-1"}
		all := []resource.Type{kind.Config, kind.GlobalSecret, kind.Mesh, kind.Zone}
		p.want("keys", p.all(all...), secrets)
		for o := range p.cfg.View.Snapshot().List(kind.Secret, "shop") {
			if o.ID.String() == own {
				p.want("origin", o.Labels["kuma.io/origin"], "zone")
			}
		}
		p.stop()
		p.pass(time.Hour)
		p.start()
		p.want("keys after a second start", p.all(all...), secrets)
		p.delete(resource.ID{Type: kind.Mesh, Name: "shop"})
		p.settle()
		p.want("keys after the mesh", p.all(all...), secrets[2:])
	})
}

func TestMeshDefaults(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		for doc, want := range map[string]int{
			`{"name": "m"}`: 2,
			`{"name": "m", "skipCreatingInitialPolicies": ["*"]}`:           1,
			`{"name": "m", "skipCreatingInitialPolicies": ["MeshTimeout"]}`: 1,
			`{"name": "m", "skipCreatingInitialPolicies": ["MeshRetry"]}`:   2,
		} {
			made, err := p.cfg.Defaults.For(p.parse(kind.Mesh, doc))
			if err != nil {
				t.Fatal(err)
			}
			p.want(doc, len(made), want)
			p.want("the first", made[0].ID, "Secret m/dataplane-token-signing-key-m-1")
		}
		p.cfg.Defaults.Site = federated
		if made, err := p.cfg.Defaults.For(p.parse(kind.Mesh, `{"name": "m"}`)); err != nil || made != nil {
			t.Errorf("a federated zone makes %v, %v", made, err)
		}
		p.cfg.Defaults.Key = func() ([]byte, error) { return nil, errors.New("no entropy") }
		p.cfg.Defaults.Site = standalone
		if _, err := p.cfg.Defaults.For(p.parse(kind.Mesh, `{"name": "m"}`)); err == nil {
			t.Error("no error without a key")
		}
		p.wantEssentials()
		p.start()
		p.want("without keys", p.all(), []string{"Config kuma-cluster-id", "Zone east"})
	})
}

func TestCollector(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.cfg.GenerateServices, p.cfg.GenerateWorkloads = false, false
		p.apply(kind.Mesh, mesh)
		for _, name := range []string{"never", "on", "off", "back"} {
			p.apply(kind.Dataplane, dataplane(name, "", http))
		}
		p.connect("default", "on", true)
		p.connect("default", "off", false)
		p.connect("default", "back", false)
		p.start()
		p.pass(71 * time.Hour)
		p.connect("default", "back", true)
		p.want("before the age", p.cfg.View.Snapshot().Count(kind.Dataplane, ""), 4)
		p.pass(2 * time.Hour)
		p.want("after it", p.all(kind.Secret, kind.Config, kind.GlobalSecret, kind.Zone), []string{
			"Dataplane default/back", "Dataplane default/never", "Dataplane default/on",
			"DataplaneInsight default/back", "DataplaneInsight default/on", "Mesh default",
		})
		p.stop()
		p.connect("default", "on", false)
		p.start()
		p.pass(73 * time.Hour)
		if p.get(kind.Dataplane, "default", "on") != nil {
			t.Error("who left while nobody was leader stays for ever")
		}
	})
}

func TestOrphans(t *testing.T) {
	const own = "Zone east"
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.start()
		p.receive("MeshTimeout", `{"mesh": "later", "name": "early"}`)
		p.apply(kind.Dataplane, dataplane("a-1", "a", http))
		p.connect("default", "a-1", true)
		p.settle()
		p.delete(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "a-1"})
		p.settle()
		if p.get(kind.DataplaneInsight, "default", "a-1") != nil {
			t.Error("the insight of a deleted Dataplane remains")
		}
		p.apply(kind.Dataplane, dataplane("a-1", "a", http))
		p.settle()
		p.delete(resource.ID{Type: kind.Mesh, Name: "default"})
		p.settle()
		p.want("after the mesh", p.all(kind.Config, kind.GlobalSecret), []string{"MeshTimeout later/early", own})
		p.stop()
		p.start()
		p.want("after the next start", p.all(kind.Config, kind.GlobalSecret), []string{own})
	})
}

func TestOrphansOfAZone(t *testing.T) {
	inBubble(t, global, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		for _, zone := range []string{"east", "west"} {
			p.apply(kind.Zone, `{"name": "`+zone+`"}`)
			p.receive(kind.ZoneInsight, `{"name": "`+zone+`"}`)
			p.receive(kind.Dataplane, `{"mesh": "default", "name": "dp-`+zone+`", "labels": {"kuma.io/zone": "`+zone+`", "kuma.io/origin": "zone"}}`)
		}
		p.receive(kind.DataplaneInsight, `{"mesh": "default", "name": "dp-early", "labels": {"kuma.io/zone": "east", "kuma.io/origin": "zone"}}`)
		p.apply("MeshTimeout", `{"mesh": "default", "name": "mine", "labels": {"kuma.io/zone": "west"}}`)
		p.start()
		p.delete(resource.ID{Type: kind.Zone, Name: "west"})
		p.settle()
		p.want("after the zone", p.all(kind.Config, kind.GlobalSecret, kind.Secret), []string{
			"Dataplane default/dp-east", "DataplaneInsight default/dp-early", "Mesh default", "MeshTimeout default/mine", "Zone east", "ZoneInsight east",
		})
		p.stop()
		p.delete(resource.ID{Type: kind.Zone, Name: "east"})
		p.start()
		p.want("deleted while nobody was leader", p.all(kind.Config, kind.GlobalSecret, kind.Secret), []string{"Mesh default", "MeshTimeout default/mine"})
	})
}

func TestOrphansOfAFederatedZone(t *testing.T) {
	inBubble(t, federated, func(t *testing.T, p *plane) {
		p.receive("MeshTimeout", `{"mesh": "later", "name": "synced", "labels": {"kuma.io/origin": "global"}}`)
		p.apply("MeshTimeout", `{"mesh": "gone", "name": "mine"}`)
		p.start()
		p.want("what sync brought waits for its mesh", p.all(kind.Config, kind.GlobalSecret), []string{"MeshTimeout later/synced", "Zone east"})
	})
}
