package cp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/observe"
)

// diagnostics.tlsEnabled is not only a setting.
func TestDiagnosticsWithTLS(t *testing.T) {
	cfg, _, err := config.Load("", []string{"ATOLL_GENERAL_WORK_DIR=" + t.TempDir(), "ATOLL_DIAGNOSTICS_TLS_ENABLED=true"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.EnsureCertificate(); err != nil {
		t.Fatal(err)
	}
	p := &plane{cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: observe.NewRegistry(), health: &observe.Health{}}
	d, err := p.diagnostics()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, ln) }()
	pem, err := os.ReadFile(cfg.Diagnostics.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	resp, err := client.Get("https://" + ln.Addr().String() + "/healthy")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
