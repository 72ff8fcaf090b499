package kind

import (
	"google.golang.org/protobuf/types/known/structpb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
)

// keyStarting is where the metadata of an insight says it; agents do not set it.
const keyStarting = "atoll.starting"

// WithStarting returns the metadata of an insight that says whether the proxy is
// starting. It does not change what it is given.
func WithStarting(metadata *structpb.Struct, starting bool) *structpb.Struct {
	if metadata.GetFields()[keyStarting].GetBoolValue() == starting {
		if _, has := metadata.GetFields()[keyStarting]; has == starting {
			return metadata
		}
	}
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(metadata.GetFields())+1)}
	for k, v := range metadata.GetFields() {
		if k != keyStarting {
			out.Fields[k] = v
		}
	}
	if starting {
		out.Fields[keyStarting] = structpb.NewBoolValue(true)
	}
	return out
}

// Starting tells whether an Envoy that had nothing connected for the Dataplane and
// has not taken its listeners yet, so that nobody can call it. Of a Dataplane that
// no proxy ever connected for, which has no insight, it is not known, and false.
func Starting(in *mesh_proto.DataplaneInsight) bool {
	return in.GetMetadata().GetFields()[keyStarting].GetBoolValue()
}
