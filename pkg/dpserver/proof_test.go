package dpserver

import (
	"testing"
	"testing/synctest"
	"time"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// TestInsightOfCertificates: an insight says which certificate its proxy has,
// counts them over reconnects, and forgets it when there is no identity any more.
func TestInsightOfCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		text := dataplaneJSON("cart-1", "192.0.2.1")
		begin := func() (*session, func(*compile.Proof)) {
			s := z.mustOpen("cart-1", text, "")
			prove := z.proves[s.proxy.ID]
			return s, func(p *compile.Proof) { prove(p); synctest.Wait() }
		}
		mtls := func() *meshproto.DataplaneInsight_MTLS {
			synctest.Wait()
			return z.insight("cart-1").GetMTLS()
		}
		s, prove := begin()
		if mtls() != nil {
			t.Errorf("before the first certificate: %v", mtls())
		}
		first := &compile.Proof{Identity: "kri_mid_shop___id_", Issued: time.Now(), Expires: time.Now().Add(time.Hour), Trusted: []string{"kri_mtrust_shop___a_"}}
		prove(first)
		before := z.writes
		s.Delivered(xds.Report{Revision: 3})
		got := mtls()
		if got.GetIssuedBackend() != first.Identity || got.GetCertificateRegenerations() != 1 || !got.GetCertificateExpirationTime().AsTime().Equal(first.Expires) ||
			!got.GetLastCertificateRegeneration().AsTime().Equal(first.Issued) || len(got.GetSupportedBackends()) != 1 {
			t.Errorf("the first: %v", got)
		}
		if n := z.writes - before; n != 1 {
			t.Errorf("%d writes for certificate and acknowledgement", n)
		}
		time.Sleep(time.Minute) // virtual
		trusting := *first
		trusting.Trusted = append(trusting.Trusted, "kri_mtrust_shop___b_")
		prove(&trusting)
		if got := mtls(); got.GetCertificateRegenerations() != 1 || len(got.GetSupportedBackends()) != 2 {
			t.Errorf("more trust: %v", got)
		}
		second := trusting
		second.Issued, second.Expires = time.Now(), time.Now().Add(time.Hour)
		prove(&second)
		if got := mtls(); got.GetCertificateRegenerations() != 2 || !got.GetCertificateExpirationTime().AsTime().Equal(second.Expires) {
			t.Errorf("renewed: %v", got)
		}
		s.Close(nil)
		s, prove = begin()
		if got := mtls(); got.GetCertificateRegenerations() != 2 {
			t.Errorf("after a reconnect, before anything is known: %v", got)
		}
		third := second
		third.Issued = time.Now().Add(time.Second)
		prove(&third)
		s.Delivered(xds.Report{Revision: 4})
		if got := mtls(); got.GetCertificateRegenerations() != 3 {
			t.Errorf("after a reconnect: %v", got)
		}
		prove(nil)
		if mtls() != nil {
			t.Errorf("without identity: %v", mtls())
		}
	})
}
