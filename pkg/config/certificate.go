package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Names of the generated files in the work dir.
const (
	certFileName = "atoll-cp.crt"
	keyFileName  = "atoll-cp.key"
)

// EnsureCertificate makes a self-signed server certificate in the work dir for
// every server that has none configured, and points these servers to it. A
// certificate made earlier is used again until a month before it expires.
// It changes c and is called once, after Load and before anything is served.
func (c *Config) EnsureCertificate() error {
	needed := false
	for _, t := range c.serverTLS() {
		needed = needed || t.CertFile == ""
	}
	if !needed {
		return nil
	}
	certFile := filepath.Join(c.General.WorkDir, certFileName)
	keyFile := filepath.Join(c.General.WorkDir, keyFileName)
	if !usable(certFile, keyFile, time.Now()) {
		names, ips := hostNames()
		if err := makeCertificate(certFile, keyFile, names, ips, time.Now()); err != nil {
			return fmt.Errorf("make a self-signed server certificate in general.workDir: %w", err)
		}
	}
	c.General.CertFile, c.General.KeyFile = certFile, keyFile
	for _, t := range c.serverTLS() {
		if t.CertFile == "" {
			t.CertFile, t.KeyFile = certFile, keyFile
		}
	}
	return nil
}

// hostNames are the names and addresses under which this host may be called.
func hostNames() (names []string, ips []net.IP) {
	names = []string{"localhost"}
	if h, err := os.Hostname(); err == nil && h != "" && h != "localhost" {
		names = append(names, h)
	}
	ips = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	addrs, _ := net.InterfaceAddrs() // without them the loopback ones must do
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			ips = append(ips, n.IP)
		}
	}
	return names, ips
}

// usable tells whether the generated pair can be kept. New addresses of the host
// are no reason to replace it: clients may have it pinned as their root.
func usable(certFile, keyFile string, now time.Time) bool {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil || pair.Leaf == nil {
		return false
	}
	return now.After(pair.Leaf.NotBefore) && now.Before(pair.Leaf.NotAfter.Add(-30*24*time.Hour))
}

func makeCertificate(certFile, keyFile string, names []string, ips []net.IP, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "atoll-cp"},
		NotBefore:    now.Add(-5 * time.Minute), // clocks of others may be behind
		NotAfter:     now.AddDate(10, 0, 0),
		DNSNames:     names,
		IPAddresses:  ips,
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// Clients take the certificate itself as their root.
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(certFile), 0o700); err != nil {
		return err
	}
	if err := replaceFile(keyFile, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	return replaceFile(certFile, "CERTIFICATE", der, 0o644)
}

func replaceFile(name, blockType string, der []byte, mode fs.FileMode) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// ServerTLS makes the TLS settings of a server. Files that are replaced take
// effect with the next handshake; when the new ones cannot be read the previous
// certificate stays.
func (t *TLS) ServerTLS() (*tls.Config, error) {
	r := &certificate{certFile: t.CertFile, keyFile: t.KeyFile}
	if _, err := r.get(nil); err != nil {
		return nil, fmt.Errorf("load server certificate: %w", err)
	}
	cfg := &tls.Config{
		MinVersion:     max(tlsVersions[t.MinVersion], tls.VersionTLS10),
		MaxVersion:     tlsVersions[t.MaxVersion],
		GetCertificate: r.get,
	}
	for _, name := range t.CipherSuites {
		id, ok := cipherSuite(name)
		if !ok {
			return nil, fmt.Errorf("unknown cipher suite %q", name)
		}
		cfg.CipherSuites = append(cfg.CipherSuites, id)
	}
	return cfg, nil
}

// ServerTLS makes the TLS settings of a server that may ask clients for
// certificates.
func (h *HTTPS) ServerTLS() (*tls.Config, error) {
	cfg, err := h.TLS.ServerTLS()
	if err != nil || h.CAFile == "" {
		return cfg, err
	}
	pemBytes, err := os.ReadFile(h.CAFile)
	if err != nil {
		return nil, fmt.Errorf("tlsCaFile: %w", err)
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pemBytes) {
		return nil, fmt.Errorf("tlsCaFile %s holds no PEM certificate", h.CAFile)
	}
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	if h.RequireClientCert {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// certificate is a key pair in files, read again when the files change.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	stamp   [2]fileStamp
	current *tls.Certificate
}

type fileStamp struct {
	modified time.Time
	size     int64
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := stampOf(c.certFile, c.keyFile)
	if err == nil && c.current != nil && stamp == c.stamp {
		return c.current, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err == nil {
			c.current, c.stamp = &pair, stamp
		}
	}
	if c.current == nil {
		return nil, err
	}
	return c.current, nil
}

func stampOf(files ...string) (stamp [2]fileStamp, err error) {
	for i, name := range files {
		if name == "" {
			return stamp, errors.New("no certificate file is configured")
		}
		info, err := os.Stat(name)
		if err != nil {
			return stamp, err
		}
		stamp[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamp, nil
}
