package control

import (
	"google.golang.org/protobuf/types/known/wrapperspb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Defaults makes what is created together with a Mesh. Whoever creates a Mesh
// stores it and its defaults in one write: then they are created exactly once,
// whatever crashes, and what a user deletes of them stays deleted.
type Defaults struct {
	Kinds *resource.Kinds
	Site  resource.Site
	// Key makes a signing key.
	Key func() ([]byte, error)
	// Policies makes the default policies of a mesh. The labels that the API
	// computes are added here. Nil: there are none.
	Policies func(mesh string) []*resource.Object
}

// For returns the resources that belong to a new Mesh: a key for its dataplane
// tokens and the default policies that it does not refuse. A zone with a global
// gets all of them from there and makes none.
func (d Defaults) For(mesh *resource.Object) ([]*resource.Object, error) {
	if d.Site.Federated {
		return nil, nil
	}
	key, err := d.dataplaneKey(mesh.Name, "1")
	if err != nil {
		return nil, err
	}
	all := []*resource.Object{key}
	if d.Policies == nil {
		return all, nil
	}
	spec := resource.SpecOf[mesh_proto.Mesh](mesh)
	for _, policy := range d.Policies(mesh.Name) {
		if !kind.WantsInitialPolicy(spec, policy.Type) {
			continue
		}
		o, err := d.Site.Admit(policy, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

func (d Defaults) dataplaneKey(mesh, number string) (*resource.Object, error) {
	return d.key(resource.ID{Type: kind.Secret, Mesh: mesh, Name: kind.DataplaneTokenKeyPrefix(mesh) + number})
}

// key makes a secret with a new signing key.
func (d Defaults) key(id resource.ID) (*resource.Object, error) {
	pem, err := d.Key()
	if err != nil {
		return nil, err
	}
	return d.secret(id, pem), nil
}

func (d Defaults) secret(id resource.ID, data []byte) *resource.Object {
	return d.own(id, &system_proto.Secret{Data: wrapperspb.Bytes(data)})
}

// own makes a resource that this control plane creates.
func (d Defaults) own(id resource.ID, spec any) *resource.Object {
	k := d.Kinds.ByType(id.Type)
	labels := d.Site.ComputeLabels(k, id.Name, id.Mesh, nil)
	return newObject(k, resource.Meta{ID: id, Labels: labels}, spec, nil)
}
