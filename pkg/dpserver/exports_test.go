package dpserver

import (
	"testing"
	"testing/synctest"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// TestInsightOfTelemetry: an insight says where a proxy's agent sends telemetry,
// in the write that notes its first acknowledgement, and forgets it with the last
// collector.
func TestInsightOfTelemetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		begin := func() (*session, func(*meshproto.DataplaneInsight_OpenTelemetry)) {
			s := z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), "")
			return s, z.exports[s.proxy.ID]
		}
		shown := func() *meshproto.DataplaneInsight_OpenTelemetry {
			synctest.Wait()
			return z.insight("cart-1").GetOpenTelemetry()
		}
		to := func(name string) *meshproto.DataplaneInsight_OpenTelemetry {
			return &meshproto.DataplaneInsight_OpenTelemetry{Backends: []*meshproto.DataplaneInsight_OpenTelemetry_Backend{{
				Name: name, Logs: &meshproto.DataplaneInsight_OpenTelemetry_Signal{Enabled: true, State: "ready"},
			}}}
		}
		s, tell := begin()
		synctest.Wait()
		before := z.writes
		tell(to("main"))
		s.Delivered(xds.Report{Revision: 3})
		if got := shown().GetBackends(); len(got) != 1 || got[0].Name != "main" || got[0].GetLogs().GetState() != "ready" {
			t.Errorf("the first: %v", got)
		}
		if n := z.writes - before; n != 1 {
			t.Errorf("%d writes for collectors and acknowledgement", n)
		}
		tell(to("other"))
		if got := shown().GetBackends(); len(got) != 1 || got[0].Name != "other" {
			t.Errorf("another: %v", got)
		}
		s.Close(nil)
		s, _ = begin()
		if got := shown().GetBackends(); len(got) != 1 {
			t.Errorf("after a reconnect, before anything is known: %v", got)
		}
		s.Delivered(xds.Report{Revision: 4})
		if got := shown(); got != nil {
			t.Errorf("without collectors: %v", got)
		}
		s.Close(nil)
	})
}
