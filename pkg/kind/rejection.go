package kind

import (
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
)

// Rejection is a piece of configuration that a proxy refused and that is still
// wanted as it is, as its insight tells it. The proxy goes on with what it had.
type Rejection struct {
	Type     string    // cds, lds, rds, …
	Resource string    // its name in Envoy
	Error    string    // in the words of Envoy
	Since    time.Time // of the first refusal
	// Policies are the KRIs of those that may have caused it, the likeliest first.
	Policies []string
}

// keyRejections is where the metadata of an insight has them; agents do not set it.
const keyRejections = "atoll.rejections"

// WithRejections returns the metadata of an insight with the rejections given,
// and no others. It does not change what it is given.
func WithRejections(metadata *structpb.Struct, list []Rejection) *structpb.Struct {
	_, has := metadata.GetFields()[keyRejections]
	if len(list) == 0 && !has {
		return metadata
	}
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(metadata.GetFields())+1)}
	for k, v := range metadata.GetFields() {
		if k != keyRejections {
			out.Fields[k] = v
		}
	}
	if len(list) == 0 {
		return out
	}
	text := structpb.NewStringValue
	items := &structpb.ListValue{}
	for _, r := range list {
		policies := &structpb.ListValue{}
		for _, kri := range r.Policies {
			policies.Values = append(policies.Values, text(kri))
		}
		items.Values = append(items.Values, structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"type": text(r.Type), "resource": text(r.Resource), "error": text(r.Error),
			"since": text(r.Since.UTC().Format(time.RFC3339)), "policies": structpb.NewListValue(policies),
		}}))
	}
	out.Fields[keyRejections] = structpb.NewListValue(items)
	return out
}

// RejectionsOf returns what a connected proxy refuses now. Of one that is not
// connected nothing is known.
func RejectionsOf(in *mesh_proto.DataplaneInsight) []Rejection {
	items := in.GetMetadata().GetFields()[keyRejections].GetListValue().GetValues()
	if len(items) == 0 || !DataplaneOnline(in) {
		return nil
	}
	var out []Rejection
	for _, v := range items {
		f := v.GetStructValue().GetFields()
		r := Rejection{Type: f["type"].GetStringValue(), Resource: f["resource"].GetStringValue(), Error: f["error"].GetStringValue()}
		r.Since, _ = time.Parse(time.RFC3339, f["since"].GetStringValue()) // zero: not known
		for _, p := range f["policies"].GetListValue().GetValues() {
			r.Policies = append(r.Policies, p.GetStringValue())
		}
		out = append(out, r)
	}
	return out
}
