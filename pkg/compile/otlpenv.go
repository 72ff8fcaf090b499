package compile

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atoll-mesh/atoll/pkg/policy"
)

// OTLPEnvOf reads which OTEL_* variables an agent says that it has, in the
// metadata of its node.
func OTLPEnvOf(s *structpb.Struct) policy.OTLPEnv {
	f := s.GetFields()
	return policy.OTLPEnv{
		Shared: otlpEnvPart(f["shared"]), Traces: otlpEnvPart(f["traces"]),
		Logs: otlpEnvPart(f["logs"]), Metrics: otlpEnvPart(f["metrics"]),
	}
}

// otlpEnvPart reads one part. What is set is true, under whatever name, or is in
// the list overrideKinds.
func otlpEnvPart(v *structpb.Value) policy.OTLPEnvPart {
	p := policy.OTLPEnvPart{}
	for name, x := range v.GetStructValue().GetFields() {
		if x.GetBoolValue() {
			p.Present = true
			p.Endpoint = p.Endpoint || strings.HasPrefix(strings.ToLower(name), "endpoint")
		}
		if name != "overrideKinds" {
			continue
		}
		for _, k := range x.GetListValue().GetValues() {
			p.Kinds = append(p.Kinds, k.GetStringValue())
		}
	}
	slices.Sort(p.Kinds)
	p.Present = p.Present || len(p.Kinds) > 0
	p.Endpoint = p.Endpoint || slices.Contains(p.Kinds, "endpoint")
	return p
}
