package rest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/auth"
)

// pipes is a listener whose connections buffer nothing.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// dial connects from this machine.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- local{server}
	return client
}

type local struct{ net.Conn }

func (local) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000} }

// piped serves a world on pipes.
func (w *world) piped(t Timeouts) *pipes {
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	srv := newHTTPServer(w.handler, t, slog.New(slog.DiscardHandler))
	go srv.Serve(p)
	w.t.Cleanup(func() { srv.Close() })
	return p
}

var someTimeouts = Timeouts{ReadHeader: 5 * time.Second, Read: 15 * time.Second, Write: 30 * time.Second, Idle: time.Minute}

// A client that does not read its events is dropped; what is kept for it
// meanwhile does not grow with what happens.
func TestSlowEventClientsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standalone)
		p := w.piped(someTimeouts)
		c := p.dial()
		defer c.Close()
		io.WriteString(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		lines := bufio.NewScanner(c)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), `data: {"revision"`) {
		}
		synctest.Wait()
		if n := w.api.streams.Load(); n != 1 {
			t.Fatalf("%d streams", n)
		}
		before := inUse()
		for i := range 3 * feedBatches {
			w.write(w.object("MeshTimeout", "default", "t1", timeoutDoc(i%100+1)))
		}
		synctest.Wait()
		kept := func() int {
			w.api.feed.mu.Lock()
			defer w.api.feed.mu.Unlock()
			return len(w.api.feed.batches)
		}
		if n := kept(); n > feedBatches {
			t.Errorf("%d revisions are kept for streams", n)
		}
		if grown := inUse() - min(before, inUse()); grown > 64<<20 { // the log in memory included
			t.Errorf("memory grew by %d MB", grown>>20)
		}
		time.Sleep(slowClient + time.Second)
		synctest.Wait()
		if n := w.api.streams.Load(); n != 0 || kept() != 0 {
			t.Errorf("%d streams, %d revisions after a client was slow", n, kept())
		}
		// Others are not: one that reads has its stream for as long as it likes.
		quick := p.dial()
		defer quick.Close()
		io.WriteString(quick, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		go io.Copy(io.Discard, quick)
		time.Sleep(10 * someTimeouts.Idle)
		synctest.Wait()
		if n := w.api.streams.Load(); n != 1 {
			t.Errorf("%d streams, though it was read", n)
		}
		quick.Close()
		synctest.Wait()
	})
}

// Who sends bodies slowly takes no place from others, and is cut off in time.
func TestSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standalone, func(c *Config) { c.MaxRequests = 2 })
		p := w.piped(someTimeouts)
		var slow []net.Conn
		for range 20 {
			c := p.dial()
			defer c.Close()
			fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"type\":", pathT1)
			slow = append(slow, c)
		}
		synctest.Wait()
		if n := len(w.api.slots); n != 0 {
			t.Errorf("%d places are taken by who sends nothing", n)
		}
		w.wantStatus(w.get("/meshes"), 200)
		w.wantStatus(w.put(pathT1, timeoutDoc(1)), 201)
		start := time.Now()
		for _, c := range slow {
			answer, err := io.ReadAll(c)
			if took := time.Since(start); took > someTimeouts.Read+time.Second {
				t.Errorf("a slow body was awaited for %s", took)
			}
			if len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
				t.Errorf("%q, %v", answer, err)
			}
		}
		synctest.Wait()
		if n := len(w.api.slots); n != 0 {
			t.Errorf("%d places remain taken", n)
		}
	})
}

// Beyond the limit of requests the answer is 503 at once, until there is a place.
func TestRequestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 3
		w := newWorld(t, standalone, func(c *Config) { c.MaxRequests = limit })
		answers := make(chan int, limit)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range limit { // they wait for a revision that is not there
			go func() {
				r := httptest.NewRequestWithContext(ctx, "GET", "http://localhost/meshes", nil)
				r.RemoteAddr = "127.0.0.1:50000"
				r.Header.Set(minRevisionHeader, "2")
				rec := httptest.NewRecorder()
				w.handler.ServeHTTP(rec, r)
				answers <- rec.Code
			}()
		}
		synctest.Wait()
		start := time.Now()
		a := w.get("/meshes")
		w.wantStatus(a, 503)
		if p := problemOf(t, a); a.Header.Get("Retry-After") == "" || p.Detail == "" || time.Since(start) != 0 {
			t.Errorf("%v %s after %s", a.Header, a.Body, time.Since(start))
		}
		w.write(w.object("MeshTimeout", "default", "t1", timeoutDoc(1)))
		for range limit {
			if status := <-answers; status != 200 {
				t.Errorf("one that waited was answered %d", status)
			}
		}
		w.wantStatus(w.get("/meshes"), 200)
	})
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	c := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) sign(c *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(1)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	c.NotBefore = time.Now().Add(-2 * time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A certificate of the configured authority says who a client is: its common
// name, in the groups that are its organizations. No other does.
func TestClientCertificates(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.Auth.LocalhostIsAdmin, c.Auth.ClientCertificates = false, true })
	w.withKeys()
	ca, foreign := newAuthority(t), newAuthority(t)
	srv := httptest.NewUnstartedServer(w.handler)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	srv.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: roots}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	defer srv.Close()
	client := func(a *authority, subject pkix.Name, more ...func(*x509.Certificate)) *http.Client {
		conf := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		if a != nil {
			c := &x509.Certificate{Subject: subject, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
			for _, change := range more {
				change(c)
			}
			cert := a.sign(c)
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}
		return &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	}
	ask := func(c *http.Client, path, token string) (int, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		res, err := c.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res.StatusCode, string(body), err
	}
	joe, root := pkix.Name{CommonName: "joe", Organization: []string{"ops"}}, pkix.Name{CommonName: "root", Organization: []string{auth.AdminGroup}}
	token := w.userToken("eve")["Authorization"]
	for _, c := range []struct {
		name, path, token string
		client            *http.Client
		status            int
		has               string
	}{
		{"none", "/meshes", "", client(nil, joe), 403, "anonymous"},
		{"a user", "/who-am-i", "", client(ca, joe), 200, `"joe"`},
		{"with groups", "/who-am-i", "", client(ca, joe), 200, `"ops"`},
		{"who is authenticated", "/who-am-i", "", client(ca, joe), 200, auth.GroupAuthenticated},
		{"but no admin", "/globalsecrets", "", client(ca, joe), 403, `joe`},
		{"an admin", "/globalsecrets", "", client(ca, root), 200, `"total": 2`},
		{"nobody", "/meshes", "", client(ca, pkix.Name{Organization: []string{auth.AdminGroup}}), 403, "anonymous"},
		{"a token is more", "/who-am-i", token, client(ca, root), 200, `"eve"`},
		{"a bad token is no less", "/who-am-i", "Bearer nonsense", client(ca, root), 401, ""},
	} {
		status, body, err := ask(c.client, c.path, c.token)
		if err != nil || status != c.status || !strings.Contains(body, c.has) {
			t.Errorf("%s: %d %s %v", c.name, status, body, err)
		}
	}
	for name, c := range map[string]*http.Client{
		"of another authority": client(foreign, root),
		"expired":              client(ca, root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }),
		"of a server":          client(ca, root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
	} {
		if status, body, err := ask(c, "/meshes", ""); err == nil {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	without := newWorld(t, standalone, func(c *Config) { c.Auth.LocalhostIsAdmin = false })
	without.wantStatus(without.as("mesh-system:admin", request{path: "/meshes"}), 403)
}
