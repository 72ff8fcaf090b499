package replica

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// authorityID is the GlobalSecret with the authority's certificate and key.
var authorityID = resource.ID{Type: kind.GlobalSecret, Name: "inter-cp-ca"}

const (
	// serverName is in the certificate of each replica. Which address it has does
	// not matter: the authority issues for replicas only.
	serverName = "replica.atoll"
	// validity of the authority, and of certificates that live in memory.
	validity = 10 * 365 * 24 * time.Hour
	backdate = time.Hour // clocks of replicas differ
)

// authority is the CA and a certificate of it for this replica.
type authority struct {
	roots *x509.CertPool
	own   tls.Certificate
}

// authority reads the CA, which the first replica makes.
func (r *Replica) authority(ctx context.Context) (*authority, error) {
	var data []byte
	k := r.cfg.View.Kinds().ByType(authorityID.Type)
	_, err := view.Edit(ctx, r.cfg.View, r.cfg.Store, authorityID, store.ControlPlane, func(old *resource.Object) (*resource.Object, error) {
		if old != nil {
			data = resource.SpecOf[systemv1.Secret](old).GetData().GetValue()
			return old, nil
		}
		var err error
		if data, err = newCA(); err != nil {
			return nil, err
		}
		meta := resource.Meta{ID: authorityID, Labels: r.cfg.View.Site().ComputeLabels(k, authorityID.Name, "", nil)}
		return k.New(meta, &systemv1.Secret{Data: wrapperspb.Bytes(data)}, nil)
	})
	if err != nil {
		return nil, err
	}
	a, err := newAuthority(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; delete it and restart all replicas", authorityID, err)
	}
	return a, nil
}

// newCA makes a certificate and its key, both as PEM.
func newCA() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "replicas of a control plane"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(validity),
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := pem.Encode(&b, block); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func newAuthority(data []byte) (*authority, error) {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, err
	}
	if !ca.IsCA {
		return nil, errors.New("it is not a CA")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: serverName}, DNSNames: []string{serverName},
		NotBefore: now.Add(-backdate), NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), pair.PrivateKey)
	if err != nil {
		return nil, err
	}
	a := &authority{roots: x509.NewCertPool(), own: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	a.roots.AddCert(ca)
	return a, nil
}

// server accepts replicas only.
func (a *authority) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.roots,
	}
}

func (a *authority) client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.own},
		RootCAs: a.roots, ServerName: serverName,
	}
}
