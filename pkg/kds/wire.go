// Package kds keeps zones and their global in step on the KDS wire: what each
// side sends and under which name, what it accepts, who may connect, and what is
// known about the other side. A stock peer on either end works; Atoll peers
// recognise each other and send less, in smaller pieces, with more detail.
package kds

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const (
	typePrefix  = "type.googleapis.com/"
	envelopeURL = typePrefix + "kuma.mesh.v1alpha1.KumaResource"
)

// wireName is how a response names a resource. Resources of global scope end in
// a dot.
func wireName(name, mesh string) string { return name + "." + mesh }

// splitWireName undoes wireName: the mesh follows the last dot.
func splitWireName(s string) (name, mesh string, err error) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", fmt.Errorf("resource name %q has no dot before its mesh", s)
	}
	return s[:i], s[i+1:], nil
}

// parcel is one resource as it travels: encoded metadata aside.
type parcel struct {
	kind   *resource.Kind
	name   string
	mesh   string
	labels map[string]string
	spec   []byte
	status []byte // empty: the empty status of the kind
}

// encode packs a parcel. The version is the hash of the bytes, so that both
// sides compute the same one from the same content.
func (p *parcel) encode() (*delta.Resource, error) {
	env := &meshv1.KumaResource{
		Meta: &meshv1.KumaResource_Meta{Name: p.name, Mesh: p.mesh, Labels: p.labels},
		Spec: &anypb.Any{TypeUrl: specURL(p.kind), Value: p.spec},
	}
	if p.kind.HasStatus {
		status := p.status
		if len(status) == 0 {
			var err error
			if status, err = json.Marshal(p.kind.NewStatus()); err != nil {
				return nil, err
			}
		}
		env.Status = &anypb.Any{Value: status}
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(env)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return &delta.Resource{
		Name:    wireName(p.name, p.mesh),
		Version: hex.EncodeToString(sum[:]),
		Body:    &anypb.Any{TypeUrl: envelopeURL, Value: b},
	}, nil
}

// specURL is the type URL of a spec: that of its message, or none for JSON.
func specURL(k *resource.Kind) string {
	if !k.Proto {
		return ""
	}
	return typePrefix + string(k.NewSpec().(proto.Message).ProtoReflect().Descriptor().FullName())
}

// decode unpacks what a peer sent for a resource of kind k. It checks form and
// scope; the content is checked by whoever makes an object of it.
func decode(k *resource.Kind, name string, body *anypb.Any) (*parcel, error) {
	if body.GetTypeUrl() != envelopeURL {
		return nil, fmt.Errorf("body is %q, not %q", body.GetTypeUrl(), envelopeURL)
	}
	var env meshv1.KumaResource
	if err := proto.Unmarshal(body.GetValue(), &env); err != nil {
		return nil, fmt.Errorf("body cannot be decoded: %w", err)
	}
	meta := env.GetMeta()
	p := &parcel{
		kind: k, name: meta.GetName(), mesh: meta.GetMesh(), labels: meta.GetLabels(),
		spec: env.GetSpec().GetValue(), status: env.GetStatus().GetValue(),
	}
	switch {
	case p.name == "":
		return nil, fmt.Errorf("meta.name is empty")
	case wireName(p.name, p.mesh) != name:
		return nil, fmt.Errorf("meta says %s", wireName(p.name, p.mesh))
	case k.Scope == resource.ScopeMesh && p.mesh == "":
		return nil, fmt.Errorf("meta.mesh is empty")
	case k.Scope == resource.ScopeGlobal && p.mesh != "":
		return nil, fmt.Errorf("meta.mesh must be empty")
	case k.Proto && env.GetSpec() != nil && env.GetSpec().GetTypeUrl() != specURL(k):
		return nil, fmt.Errorf("spec is %q, not %q", env.GetSpec().GetTypeUrl(), specURL(k))
	}
	if p.labels == nil {
		p.labels = map[string]string{}
	}
	return p, nil
}

// id is the resource as this side stores it.
func (p *parcel) id() resource.ID {
	return resource.ID{Type: p.kind.Type, Mesh: p.mesh, Name: p.name}
}
