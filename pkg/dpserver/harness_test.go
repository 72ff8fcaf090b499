package dpserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

var site = resource.Site{Zone: "east", Env: resource.EnvUniversal, Federated: true}

// zone is a store, a view and a server without network.
type zone struct {
	*Server
	t  *testing.T
	st store.Store

	mu       sync.Mutex
	attached map[resource.ID]int
	proves   map[resource.ID]func(*compile.Proof) // tells the newest session of a certificate
	exports  map[resource.ID]func(*meshproto.DataplaneInsight_OpenTelemetry)
	writes   int
}

// counting counts the writes of a store.
type counting struct {
	store.Store
	z *zone
}

func (c *counting) Write(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	c.z.mu.Lock()
	c.z.writes++
	c.z.mu.Unlock()
	return c.Store.Write(ctx, ops...)
}

// attachment has what is stored in set to send, if anything.
type attachment struct {
	z   *zone
	id  resource.ID
	set atomic.Pointer[xds.Set]
}

func (a *attachment) Set() *xds.Set            { return a.set.Load() }
func (a *attachment) Changed() <-chan struct{} { return nil }
func (a *attachment) Prove(fn func(*compile.Proof)) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	a.z.proves[a.id] = fn
}

func (a *attachment) Exports(fn func(*meshproto.DataplaneInsight_OpenTelemetry)) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	a.z.exports[a.id] = fn
}

func (a *attachment) Detach() {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	a.z.attached[a.id]--
}

// newZone starts a zone that has the mesh "shop". Within a synctest bubble all
// its goroutines are, too.
func newZone(t *testing.T, change func(*Config)) *zone {
	t.Helper()
	z := &zone{t: t, attached: map[resource.ID]int{}, proves: map[resource.ID]func(*compile.Proof){}, exports: map[resource.ID]func(*meshproto.DataplaneInsight_OpenTelemetry){}}
	kinds := resource.NewKinds(kind.All()...)
	z.st = &counting{memory.Open(), z}
	v := view.New(kinds, site, slog.New(slog.DiscardHandler))
	cert, key := newCertificate(t, true, "localhost", "127.0.0.1")
	c := Config{
		CertFile: cert, KeyFile: key,
		Store: z.st, View: v, Kinds: kinds, Site: site,
		Log:        slog.New(slog.DiscardHandler),
		InstanceID: "cp-1", Version: "3.0.0",
		DeregistrationDelay: 10 * time.Second,
		Attach: func(i compile.ProxyInfo) Attachment {
			z.mu.Lock()
			defer z.mu.Unlock()
			z.attached[i.ID]++
			return &attachment{z: z, id: i.ID}
		},
		Bootstrap: BootstrapParams{XDSPort: 5678},
	}
	if change != nil {
		change(&c)
	}
	var err error
	if z.Server, err = New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { view.Follow(ctx, z.st, v) })
	wg.Go(func() { z.writer.run(ctx) })
	wg.Go(func() { z.blame.run(ctx) })
	t.Cleanup(func() {
		z.proxies.stop()
		cancel()
		wg.Wait()
	})
	z.put(`{"type":"Mesh","name":"shop"}`)
	return z
}

// put stores a resource given as JSON and waits until the view has it.
func (z *zone) put(text string) *resource.Object {
	z.t.Helper()
	var head struct{ Type resource.Type }
	if err := json.Unmarshal([]byte(text), &head); err != nil {
		z.t.Fatal(err)
	}
	o, err := z.cfg.Kinds.ByType(head.Type).DecodeJSON([]byte(text))
	if err != nil {
		z.t.Fatal(err)
	}
	if o, err = site.Admit(o, nil); err != nil {
		z.t.Fatal(err)
	}
	z.write(store.Put(o, store.Any, "test"))
	return z.get(o.Type, o.Mesh, o.Name)
}

func (z *zone) write(ops ...store.Op) {
	z.t.Helper()
	rev, err := z.st.Write(z.t.Context(), ops...)
	if err != nil {
		z.t.Fatal(err)
	}
	if _, err := z.cfg.View.Wait(z.t.Context(), rev); err != nil {
		z.t.Fatal(err)
	}
}

func (z *zone) get(t resource.Type, mesh, name string) *resource.Object {
	return z.cfg.View.Snapshot().Get(resource.ID{Type: t, Mesh: mesh, Name: name})
}

func (z *zone) insight(name string) *meshproto.DataplaneInsight {
	o := z.get(kind.DataplaneInsight, "shop", name)
	if o == nil {
		return nil
	}
	return resource.SpecOf[meshproto.DataplaneInsight](o)
}

func (z *zone) attachments(name string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.attached[resource.ID{Type: kind.Dataplane, Mesh: "shop", Name: name}]
}

func dataplaneJSON(name, address string) string {
	return `{"type":"Dataplane","mesh":"shop","name":"` + name + `","labels":{"app":"cart"},` +
		`"networking":{"address":"` + address + `","inbound":[{"port":8080,"protocol":"http"}]}}`
}

// node is what Envoy says first; a text is the Dataplane that it brings.
func node(t *testing.T, name, text string) *core.Node {
	t.Helper()
	m := map[string]any{
		keyVersion: map[string]any{
			"kumaDp": map[string]any{"version": "3.0.0"},
			"envoy":  map[string]any{"version": "1.40.0", "kumaDpCompatible": true},
		},
		keyFeatures:      []any{"feature-reuse-port"},
		keyReadinessPort: "9902",
		keyDynamicMetadata: map[string]any{
			"version.dependencies.coredns": "1.11",
		},
	}
	if text != "" {
		m[keyResource] = text
	}
	s, err := structpb.NewStruct(m)
	if err != nil {
		t.Fatal(err)
	}
	return &core.Node{Id: "shop." + name, Metadata: s}
}

func (z *zone) open(name, text, token string) (*session, error) {
	ctx := z.t.Context()
	if token != "" {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", token))
	}
	s, err := z.proxies.Open(ctx, node(z.t, name, text), false)
	if err != nil {
		return nil, err
	}
	return s.(*session), nil
}

func (z *zone) mustOpen(name, text, token string) *session {
	z.t.Helper()
	s, err := z.open(name, text, token)
	if err != nil {
		z.t.Fatal(err)
	}
	return s
}

// byLabel is a token check: the token must equal the label "app".
func byLabel(_ context.Context, token string, dp *resource.Object) error {
	if dp.Labels["app"] != token {
		return errors.New("the token is for another app")
	}
	return nil
}

// newCertificate writes a self-signed one and its key.
func newCertificate(t *testing.T, ca bool, names ...string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true, IsCA: ca,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: raw},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}
