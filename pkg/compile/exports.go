package compile

import (
	"reflect"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// Exports has fn called with the collectors that the proxy's agent sends to, if
// there are any, and each time that changes: nil when there are none any more.
// Calls come one after the other; fn must not block, nor change what it gets.
func (p *Proxy) Exports(fn func(*meshproto.DataplaneInsight_OpenTelemetry)) {
	p.engine.do(func() {
		p.tell = fn
		if len(p.exports) > 0 {
			fn(exportsMessage(p.exports))
		}
	})
}

func (p *Proxy) settleExports(next []policy.Exported) {
	if reflect.DeepEqual(p.exports, next) {
		return
	}
	p.exports = next
	if p.tell != nil {
		p.tell(exportsMessage(next))
	}
}

func exportsMessage(list []policy.Exported) *meshproto.DataplaneInsight_OpenTelemetry {
	if len(list) == 0 {
		return nil
	}
	out := &meshproto.DataplaneInsight_OpenTelemetry{}
	for _, e := range list {
		signal := func(s *policy.ExportedSignal) *meshproto.DataplaneInsight_OpenTelemetry_Signal {
			if s == nil {
				return nil
			}
			return &meshproto.DataplaneInsight_OpenTelemetry_Signal{
				Enabled: true, EnvAllowed: e.EnvAllowed, EnvInputPresent: s.EnvInputPresent, State: s.State,
				OverrideKinds: s.OverrideKinds, MissingFields: s.MissingFields, BlockedReasons: s.BlockedReasons,
			}
		}
		out.Backends = append(out.Backends, &meshproto.DataplaneInsight_OpenTelemetry_Backend{
			Name: e.Name, Traces: signal(e.Traces), Logs: signal(e.Logs), Metrics: signal(e.Metrics),
		})
	}
	return out
}
