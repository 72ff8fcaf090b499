package dpserver

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// envoyBinary finds the real Envoy.
func envoyBinary(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("ENVOY"); p != "" {
		return p
	}
	if p, err := exec.LookPath("envoy"); err == nil {
		return p
	}
	p, err := filepath.Abs(filepath.Join("..", "..", "build", "envoy", "envoy"))
	if err == nil {
		_, err = os.Stat(p)
	}
	if err != nil {
		t.Fatal("no Envoy: run make tools")
	}
	return p
}

// request is what an agent says that brings its Dataplane.
func request() map[string]any {
	return map[string]any{
		"mesh": "shop", "name": "cart-1", "proxyType": "dataplane",
		"dataplaneToken": "aa.bb.cc", "dataplaneTokenPath": "/run/atoll/token",
		"dataplaneResource": dataplaneJSON("cart-1", "192.0.2.1"),
		"version": map[string]any{
			"kumaDp": map[string]any{"version": "3.0.0"},
			"envoy":  map[string]any{"version": "1.40.0", "kumaDpCompatible": true},
		},
		"dynamicMetadata": map[string]any{"HOST_IP": "192.0.2.200"},
		"readinessPort":   9902, "dnsPort": 15053, "operatingSystem": "linux",
		"features": []string{"feature-reuse-port"},
		"workdir":  "/run/atoll/cart-1", "systemCaPath": "/etc/ssl/cert.pem",
	}
}

func (z *zone) bootstrap(host, accept string, body any) *httptest.ResponseRecorder {
	z.t.Helper()
	b, ok := body.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(body); err != nil {
			z.t.Fatal(err)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "https://"+host+"/bootstrap", bytes.NewReader(b))
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	z.handler().ServeHTTP(w, r)
	return w
}

// TestBootstrapDocument compares whole documents and has Envoy check each:
//   - envoy-grpc: the default; the token is in the document
//   - google-grpc: reloadable tokens, read from their file for each stream
//   - tcp-admin: a control plane known by name, and admin on a TCP port
func TestBootstrapDocument(t *testing.T) {
	envoy := envoyBinary(t)
	for name, c := range map[string]struct {
		change func(*Config)
		host   string
	}{
		"envoy-grpc":  {host: "127.0.0.1:5678"},
		"google-grpc": {host: "127.0.0.1:5678", change: func(c *Config) { c.ReloadableTokens = true }},
		"tcp-admin":   {host: "localhost", change: func(c *Config) { c.Bootstrap.AdminTCP = true }},
	} {
		t.Run(name, func(t *testing.T) {
			z := newZone(t, c.change)
			w := z.bootstrap(c.host, "", request())
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/x-yaml" {
				t.Fatalf("%d %s: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
			}
			text := w.Body.Bytes()
			validate(t, envoy, text)
			got := withoutCertificate(text)
			file := filepath.Join("testdata", "bootstrap-"+name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s (-update rewrites it):\n%s", file, got)
			}
		})
	}
}

// withoutCertificate leaves out the lines of certificates, which differ in every
// run.
func withoutCertificate(text []byte) []byte {
	var out bytes.Buffer
	inside := false
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte("-----BEGIN")) {
			inside = true
		}
		if !inside {
			out.Write(line)
		}
		if bytes.Contains(line, []byte("-----END")) {
			inside = false
			fmt.Fprintf(&out, "%s(a certificate)\n", line[:bytes.IndexByte(line, '-')])
		}
	}
	return out.Bytes()
}

func validate(t *testing.T, envoy string, text []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(envoy, "--mode", "validate", "-c", file, "-l", "error").CombinedOutput(); err != nil {
		t.Errorf("Envoy refuses it: %v\n%s\n%s", err, out, text)
	}
}

func TestBootstrapAnswerInJSON(t *testing.T) {
	z := newZone(t, nil)
	w := z.bootstrap("localhost", "application/json", request())
	var answer struct {
		Bootstrap []byte
		Sidecar   struct {
			Networking struct{ Address string }
			Metrics    struct{ Aggregate json.RawMessage }
		} `json:"kumaSidecarConfiguration"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Sidecar.Networking.Address != "192.0.2.1" || string(answer.Sidecar.Metrics.Aggregate) != "null" {
		t.Errorf("%s", w.Body)
	}
	if !bytes.Contains(answer.Bootstrap, []byte("id: shop.cart-1")) {
		t.Errorf("%s", answer.Bootstrap)
	}
	if z.get("Dataplane", "shop", "cart-1") != nil {
		t.Error("asking for a bootstrap document registered the Dataplane")
	}
}

func TestBootstrapRefusals(t *testing.T) {
	with := func(key string, value any) map[string]any {
		r := request()
		r[key] = value
		return r
	}
	without := func(keys ...string) map[string]any {
		r := request()
		for _, k := range keys {
			delete(r, k)
		}
		return r
	}
	outbound := strings.Replace(dataplaneJSON("cart-1", "192.0.2.1"), `"inbound"`,
		`"outbound":[{"port":1,"backendRef":{"kind":"MeshService","name":"a","port":1}}],"inbound"`, 1)
	transparent := with("dataplaneResource", outbound)
	transparent["dataplaneConfig"] = map[string]any{"redirect": map[string]any{"outbound": map[string]any{"enabled": true}}}
	elsewhere := strings.Replace(dataplaneJSON("cart-1", "192.0.2.1"), "shop", "shup", 1)
	for name, c := range map[string]struct {
		host string
		body any
		want int
		say  string
	}{
		"not JSON":           {"localhost", []byte("{"), 400, "not valid JSON"},
		"proxy type":         {"localhost", with("proxyType", "ingress"), 400, "proxyType"},
		"no token":           {"localhost", without("dataplaneToken", "dataplaneTokenPath"), 422, "dataplaneToken"},
		"name of host":       {"elsewhere.example", request(), 400, "not valid for"},
		"no Dataplane":       {"localhost", without("dataplaneResource"), 404, ""},
		"invalid Dataplane":  {"localhost", with("dataplaneResource", `{"type":"Dataplane","mesh":"shop","name":"cart-1","networking":{}}`), 422, "networking.address: "},
		"not a Dataplane":    {"localhost", with("dataplaneResource", `{"type":"Mesh","name":"cart-1"}`), 422, "type: "},
		"other name":         {"localhost", with("name", "cart-2"), 422, "name: "},
		"unknown mesh":       {"localhost", merge(with("dataplaneResource", elsewhere), "mesh", "shup"), 422, `mesh "shup" does not exist`},
		"outbound and TP":    {"localhost", transparent, 422, "outbound: "},
		"too large":          {"localhost", bytes.Repeat([]byte(" "), maxBootstrapBody+1), 413, "larger"},
		"broken redirection": {"localhost", with("dataplaneConfig", "x"), 400, "dataplaneConfig"},
	} {
		t.Run(name, func(t *testing.T) {
			z := newZone(t, func(c *Config) { c.Authenticate = byLabel })
			w := z.bootstrap(c.host, "application/json", c.body)
			if w.Code != c.want || !strings.Contains(w.Body.String(), c.say) || c.say == "" && w.Body.Len() > 0 {
				t.Errorf("%d %s, want %d with %q", w.Code, w.Body, c.want, c.say)
			}
		})
	}
}

func merge(m map[string]any, key string, value any) map[string]any {
	m[key] = value
	return m
}

// TestForeignCA: a certificate that is no CA cannot be what proxies trust.
func TestForeignCA(t *testing.T) {
	cert, key := newCertificate(t, false, "localhost")
	z := newZone(t, func(c *Config) { c.CertFile, c.KeyFile = cert, key })
	if w := z.bootstrap("localhost", "", request()); w.Code != 400 || !strings.Contains(w.Body.String(), "--ca-cert-file") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := z.bootstrap("localhost", "", merge(request(), "caCert", string(z.certs.current.pem))); w.Code != 200 {
		t.Errorf("with the CA given: %d %s", w.Code, w.Body)
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	cert, key := newCertificate(t, true, "localhost")
	c, err := loadCertificates(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	newCert, newKey := newCertificate(t, true, "localhost", "another.example")
	if err := os.Rename(newCert, cert); err != nil {
		t.Fatal(err)
	}
	if got, err := c.get(nil); err != nil || got != first {
		t.Errorf("a certificate whose key is still missing: %v", err)
	}
	if err := os.Rename(newKey, key); err != nil {
		t.Fatal(err)
	}
	if got, err := c.get(nil); err != nil || got == first {
		t.Errorf("the new certificate is not served: %v", err)
	}
	if _, err := loadCertificates("missing", "missing"); err == nil || !strings.Contains(err.Error(), "dpServer.tlsCertFile") {
		t.Errorf("missing files: %v", err)
	}
}

func TestCompatible(t *testing.T) {
	for _, c := range []struct {
		cp, dp string
		want   bool
	}{
		{"3.0.0", "3.2.9", true}, {"3.0.0", "3.3.0", false}, {"3.4.0", "3.2.0", true},
		{"3.0.0", "2.0.0", false}, {"3.0.0", "dev", true}, {"", "3.0.0", true},
	} {
		if got := compatible(c.cp, c.dp); got != c.want {
			t.Errorf("%s and %s: %v", c.cp, c.dp, got)
		}
	}
}
