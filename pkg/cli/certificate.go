package cli

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// certificateLife is how long a certificate made here is valid.
const certificateLife = 10 * 365 * 24 * time.Hour

func (a *app) certificateCmd() *cobra.Command {
	var use, certFile, keyFile, keyType string
	var hosts []string
	c := &cobra.Command{
		Use:   "tls-certificate",
		Short: "Make a certificate that signs itself, and its key",
		Long: `Make a certificate that signs itself, and its key: --type server for a control
plane, with the names and addresses that it is called by, --type client for
somebody who authenticates with it. It is valid for ten years. A file - is
standard output.`,
		Example: `  atollctl generate tls-certificate --type server --hostname cp.example --hostname 10.0.0.1
  atollctl generate tls-certificate --type client --cert-file me.crt --key-file me.key`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			switch {
			case use != "server" && use != "client":
				return failWith(exitUsage, "--type must be server or client, got %q", use)
			case use == "server" && len(hosts) == 0:
				return failWith(exitUsage, "a server needs at least one --hostname")
			case keyType != "rsa" && keyType != "ecdsa":
				return failWith(exitUsage, "--key-type must be rsa or ecdsa, got %q", keyType)
			}
			cert, key, err := selfSigned(use, keyType, hosts)
			if err != nil {
				return err
			}
			if err := a.writeFile(keyFile, key, 0o600); err != nil {
				return err
			}
			if err := a.writeFile(certFile, cert, 0o644); err != nil {
				return err
			}
			if certFile != "-" && keyFile != "-" {
				fmt.Fprintf(a.out, "certificate in %s, key in %s\n", certFile, keyFile)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&use, "type", "", "server or client")
	f.StringSliceVar(&hosts, "hostname", nil, "name or address of the server (may be repeated)")
	f.StringVar(&certFile, "cert-file", "cert.pem", "where the certificate goes")
	f.StringVar(&keyFile, "key-file", "key.pem", "where the key goes")
	f.StringVar(&keyType, "key-type", "rsa", "rsa or ecdsa")
	return c
}

func (a *app) writeFile(path string, content []byte, mode os.FileMode) error {
	if path == "-" {
		_, err := a.out.Write(content)
		return err
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return failWith(exitFailed, "%w", err)
	}
	return nil
}

func selfSigned(use, keyType string, hosts []string) (cert, key []byte, err error) {
	var private crypto.Signer
	if keyType == "ecdsa" {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		private, err = rsa.GenerateKey(rand.Reader, signingKeyBits)
	}
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Atoll"}, CommonName: "atoll-" + use},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(certificateLife),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	if use == "client" {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
