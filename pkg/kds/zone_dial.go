package kds

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// dialer connects to a global.
type dialer struct {
	cfg    *ZoneConfig
	target string
	tls    bool
}

func newDialer(cfg *ZoneConfig) (*dialer, error) {
	u, err := url.Parse(cfg.Address)
	if err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "grpcs" && u.Scheme != "grpc" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("global address %q: must be grpcs://host:port, or grpc://host:port without TLS", cfg.Address)
	}
	d := &dialer{cfg: cfg, target: u.Host, tls: u.Scheme == "grpcs"}
	_, err = d.credentials()
	return d, err
}

// credentials are read anew for every connection, so that a replaced file counts.
func (d *dialer) credentials() (credentials.TransportCredentials, error) {
	if !d.tls {
		return insecure.NewCredentials(), nil
	}
	// Skipping verification is the user's explicit setting.
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: d.cfg.SkipVerify}
	if d.cfg.RootCAFile != "" {
		pem, err := os.ReadFile(d.cfg.RootCAFile)
		if err != nil {
			return nil, fmt.Errorf("root CA of the global: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("root CA of the global: %s holds no PEM certificate", d.cfg.RootCAFile)
		}
	}
	return credentials.NewTLS(cfg), nil
}

// dial makes a connection and the headers of its calls. Nothing is sent yet.
func (d *dialer) dial() (*grpc.ClientConn, metadata.MD, error) {
	creds, err := d.credentials()
	if err != nil {
		return nil, nil, err
	}
	v := d.cfg.Version
	md := metadata.Pairs(
		headerClientID, d.cfg.Name, "kds-version", "v3", "zone-version", "v3", headerVersion, v.Version,
		headerFeatures, featurePingHealth, headerFeatures, featureHashSuffix, headerFeatures, featureAtoll,
	)
	if d.cfg.Token != nil {
		token, err := d.cfg.Token()
		if err != nil {
			return nil, nil, fmt.Errorf("zone token: %w", err)
		}
		if token = strings.TrimSpace(token); token != "" {
			md.Set(headerAuth, "Bearer "+token)
		}
	}
	commit := v.GitCommit[:min(7, len(v.GitCommit))]
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent(fmt.Sprintf("kds/%s (%s; %s; %s/%s)", v.Version, runtime.GOOS, runtime.GOARCH, v.Product, commit)),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(d.cfg.MaxMessage), grpc.MaxCallSendMsgSize(d.cfg.MaxMessage), grpc.UseCompressor(gzip.Name),
		),
		// A stock global refuses pings that come more often.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
	}, d.cfg.Dial...)
	conn, err := grpc.NewClient(d.target, opts...)
	return conn, md, err
}
