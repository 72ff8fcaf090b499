package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTLS(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca's.pem")
	writeCA(t, ca)
	for _, c := range []struct {
		mode             string
		tls, trustAnyone bool
		serverName       string
	}{
		{"", false, false, ""},
		{TLSDisable, false, false, ""},
		{TLSVerifyNone, true, true, ""},
		{TLSVerifyCA, true, true, ""}, // checked by a function of pgx's, which leaves out the name
		{TLSVerifyFull, true, false, "db.example"},
	} {
		cfg := Config{Host: "db.example", User: "u", DBName: "d", TLS: TLS{Mode: c.mode, CAPath: ca}}.withDefaults()
		pc, err := cfg.pool()
		if err != nil {
			t.Errorf("%q: %v", c.mode, err)
			continue
		}
		got := pc.ConnConfig.TLSConfig
		if (got != nil) != c.tls {
			t.Errorf("%q: TLS %v, want %v", c.mode, got != nil, c.tls)
		}
		if got == nil {
			continue
		}
		if got.InsecureSkipVerify != c.trustAnyone || c.serverName != "" && got.ServerName != c.serverName {
			t.Errorf("%q: skips verification %v, name %q; want %v, %q", c.mode, got.InsecureSkipVerify, got.ServerName, c.trustAnyone, c.serverName)
		}
		if (got.VerifyPeerCertificate != nil) != (c.mode == TLSVerifyCA) {
			t.Errorf("%q: checks the chain by itself: %v", c.mode, got.VerifyPeerCertificate != nil)
		}
		if len(pc.ConnConfig.Fallbacks) != 0 {
			t.Errorf("%q: falls back to another way", c.mode)
		}
	}
}

func writeCA(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
