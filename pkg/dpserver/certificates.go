package dpserver

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificates is the server's certificate, read again when a file changed.
// Looking at the files during a handshake needs no timer and no watcher, and
// handshakes are rare: proxies stay connected.
type certificates struct {
	certFile, keyFile string

	mu      sync.Mutex
	stamp   [2]fileStamp
	current *certificate
}

type certificate struct {
	tls  *tls.Certificate
	leaf *x509.Certificate
	pem  []byte // the certificate alone, as proxies are to trust it
}

type fileStamp struct {
	modified time.Time
	size     int64
}

func loadCertificates(certFile, keyFile string) (*certificates, error) {
	c := &certificates{certFile: certFile, keyFile: keyFile}
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := c.load()
	if err != nil {
		return nil, err
	}
	return cert.tls, nil
}

// load returns what the files hold now. Files that are being replaced, and so do
// not fit each other, leave the former certificate in place.
func (c *certificates) load() (*certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var stamp [2]fileStamp
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			if c.current != nil {
				return c.current, nil
			}
			return nil, fmt.Errorf("the certificate of the server for proxies cannot be read: %w; set dpServer.tlsCertFile and dpServer.tlsKeyFile", err)
		}
		stamp[i] = fileStamp{info.ModTime(), info.Size()}
	}
	if c.current != nil && stamp == c.stamp {
		return c.current, nil
	}
	next, err := readCertificate(c.certFile, c.keyFile)
	if err != nil {
		if c.current != nil {
			return c.current, nil
		}
		return nil, err
	}
	c.current, c.stamp = next, stamp
	return next, nil
}

func readCertificate(certFile, keyFile string) (*certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the server for proxies (%s, %s): %w", certFile, keyFile, err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	pair.Leaf = leaf
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	return &certificate{tls: &pair, leaf: leaf, pem: text}, nil
}
