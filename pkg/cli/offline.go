package cli

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// offline makes tokens with a key at hand instead of asking a control plane.
type offline struct{ keyPath, kid string }

func (o *offline) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.keyPath, "signing-key-path", "", "sign here with this private key (PEM) instead of asking the server")
	c.Flags().StringVar(&o.kid, "kid", "", "id of that key, by which the control plane finds the public one")
}

// clockLeeway is how far clocks may differ.
const clockLeeway = 5 * time.Second

// sign makes a token of claims, which name things as the control plane does.
func (o *offline) sign(claims jwt.MapClaims, validFor time.Duration) (string, error) {
	if o.kid == "" {
		return "", failWith(exitUsage, "--signing-key-path needs --kid: the id under which the control plane knows the public key")
	}
	key, err := readSigningKey(o.keyPath)
	if err != nil {
		return "", err
	}
	now := time.Now()
	since := jwt.NewNumericDate(now.Add(-clockLeeway))
	claims["iat"], claims["nbf"] = since, since
	claims["exp"] = jwt.NewNumericDate(now.Add(validFor))
	claims["jti"] = uuid.NewString()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = o.kid
	return token.SignedString(key)
}

// readSigningKey reads an RSA private key, as it is or in base64.
func readSigningKey(path string) (*rsa.PrivateKey, error) {
	if path == "" {
		return nil, failWith(exitUsage, "the key is missing; give it with --signing-key-path FILE")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, failWith(exitUsage, "signing key: %w", err)
	}
	b = bytes.TrimSpace(b)
	if decoded, err := base64.StdEncoding.DecodeString(string(b)); err == nil {
		b = decoded
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, failWith(exitRejected, "%s holds no PEM block", path)
	}
	key, err := parsePrivateKey(block.Bytes)
	if err != nil {
		return nil, failWith(exitRejected, "%s holds no RSA private key: %w", path, err)
	}
	return key, nil
}

func parsePrivateKey(der []byte) (*rsa.PrivateKey, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	if key, ok := key.(*rsa.PrivateKey); ok {
		return key, nil
	}
	return nil, errors.New("it is a key of another kind")
}

// printPEM writes a block as it is or, for settings that are one line, in base64.
func (a *app) printPEM(block *pem.Block, format string) error {
	b := pem.EncodeToMemory(block)
	switch format {
	case "pem":
	case "pem-base64":
		b = []byte(base64.StdEncoding.EncodeToString(b))
	default:
		return failWith(exitUsage, "unknown --format %q; choose pem or pem-base64", format)
	}
	_, err := fmt.Fprintf(a.out, "%s", b)
	return err
}
