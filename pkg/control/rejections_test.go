package control_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// refuse writes the insight of a connected proxy that refuses what a policy
// shaped; nothing when the policies are none.
func (p *plane) refuse(name, words string, policies ...string) {
	p.t.Helper()
	var list []kind.Rejection
	if len(policies) > 0 {
		list = []kind.Rejection{{Type: "lds", Resource: "listener-1", Error: words, Since: time.Now(), Policies: policies}}
	}
	k := p.kinds.ByType(kind.DataplaneInsight)
	id := resource.ID{Type: k.Type, Mesh: "default", Name: name}
	o, err := k.New(resource.Meta{ID: id}, &mesh_proto.DataplaneInsight{
		Subscriptions: []*mesh_proto.DiscoverySubscription{{Id: "1", ConnectTime: timestamppb.Now()}},
		Metadata:      kind.WithRejections(&structpb.Struct{}, list),
	}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.edit(id, func(*resource.Object) *resource.Object { return o })
}

// TestRejectedPolicies states on a policy who refuses it, while somebody does, in
// a zone as at the global, and after a change of leader.
func TestRejectedPolicies(t *testing.T) {
	for name, site := range map[string]resource.Site{"global": global, "zone": standalone, "federated zone": federated} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, site, func(t *testing.T, p *plane) {
				p.receive("Mesh", `{"name": "default"}`)
				p.receive("MeshRetry", `{"name": "bad", "mesh": "default", "spec": {}}`)
				p.receive("MeshRetry", `{"name": "good", "mesh": "default", "spec": {}}`)
				for _, dp := range []string{"a", "b", "c", "d", "e", "f", "g"} {
					p.receive("Dataplane", `{"name": "`+dp+`", "mesh": "default"}`)
				}
				p.start()
				condition := func(name string) *kind.Condition {
					return resource.StatusOf[kind.PolicyStatus](p.get("MeshRetry", "default", name)).Condition(kind.ConditionRejected)
				}
				bad := p.get("MeshRetry", "default", "bad")
				kri, other := bad.KRI().String(), p.get("MeshRetry", "default", "good").KRI().String()
				if strings.Contains(string(bad.JSON()), "status") {
					t.Errorf("a policy of which there is nothing to say: %s", bad.JSON())
				}
				p.refuse("a", "no such filter", kri)
				p.settle()
				c := condition("bad")
				if c == nil || c.Status != "True" || !strings.Contains(c.Message, "lds listener-1: no such filter") || !strings.Contains(c.Message, "1 proxy refuses it and keeps what it had (a)") {
					t.Fatalf("condition %+v", c)
				}
				if got := p.get("MeshRetry", "default", "bad"); !got.Modified.Equal(bad.Modified) || !strings.Contains(string(got.JSON()), `"status":{"conditions":[{"type":"Rejected"`) {
					t.Errorf("the policy is now %s", got.JSON())
				}
				if condition("good") != nil {
					t.Error("a policy that nobody refuses has the condition")
				}
				p.stop() // another leader knows it too
				for _, dp := range []string{"b", "c", "d", "e", "f", "g"} {
					p.refuse(dp, "no such filter", kri, other)
				}
				p.start()
				if c := condition("bad"); c == nil || !strings.Contains(c.Message, "7 proxies refuse it and keep what they had (a, b, c, d, e and 2 more)") {
					t.Errorf("seven proxies: %+v", c)
				}
				if c := condition("good"); c == nil || !strings.Contains(c.Message, "6 proxies") || !strings.Contains(c.Message, "(Or it is because of "+kri+".)") {
					t.Errorf("the other suspect: %+v", c)
				}
				for _, dp := range []string{"a", "b", "c", "d", "e"} {
					p.refuse(dp, "")
				}
				p.connect("default", "f", false)
				p.delete(resource.ID{Type: kind.DataplaneInsight, Mesh: "default", Name: "g"})
				p.settle()
				for _, name := range []string{"bad", "good"} {
					if o := p.get("MeshRetry", "default", name); o.Status != nil && condition(name) != nil {
						t.Errorf("nobody refuses %s: %s", name, o.JSON())
					}
				}
			})
		})
	}
}
