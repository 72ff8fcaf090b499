package identity

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const (
	trustDomain = "spire.example"
	bundleName  = "ALL" // what a SPIRE agent calls the bundles of all trust domains
)

// agent is what a SPIRE agent offers to one workload, as far as Envoy sees: an SDS
// server on a unix socket, with certificates of its own CA. SPIRE itself cannot
// be had here.
type agent struct {
	secret.UnimplementedSecretDiscoveryServiceServer
	ca *identity.CA
	id string // SPIFFE ID of the workload

	mu      sync.Mutex
	version int
	changed chan struct{} // closed and replaced with each version
	served  map[string]int
}

func newAgent(t *testing.T, ca *identity.CA, id string) (*agent, string) {
	t.Helper()
	a := &agent{ca: ca, id: id, version: 1, changed: make(chan struct{}), served: map[string]int{}}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	secret.RegisterSecretDiscoveryServiceServer(srv, a)
	go func() { _ = srv.Serve(l) }() // ends with Stop
	t.Cleanup(srv.Stop)
	return a, socket
}

// rotate has a new certificate issued.
func (a *agent) rotate() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	close(a.changed)
	a.changed = make(chan struct{})
}

// asked is how often a secret was sent.
func (a *agent) asked(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.served[name]
}

// StreamSecrets implements the state-of-the-world variant, which is the one that
// SPIRE agents have.
func (a *agent) StreamSecrets(stream secret.SecretDiscoveryService_StreamSecretsServer) error {
	requests := make(chan *discovery.DiscoveryRequest)
	ctx := stream.Context()
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	var names []string
	sent := 0 // version
	for {
		a.mu.Lock()
		version, changed := a.version, a.changed
		a.mu.Unlock()
		if len(names) > 0 && sent != version {
			resp, err := a.response(version, names)
			if err != nil {
				return err
			}
			if err := stream.Send(resp); err != nil {
				return err
			}
			sent = version
		}
		select {
		case r := <-requests:
			if !slices.Equal(r.ResourceNames, names) { // else it confirms what it got, or does not
				names, sent = r.ResourceNames, 0
			}
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *agent) response(version int, names []string) (*discovery.DiscoveryResponse, error) {
	resp := &discovery.DiscoveryResponse{
		VersionInfo: fmt.Sprint(version), Nonce: fmt.Sprint(version),
		TypeUrl: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
	}
	for _, name := range names {
		s, err := a.secret(name)
		if err != nil {
			return nil, err
		}
		packed, err := anypb.New(s)
		if err != nil {
			return nil, err
		}
		resp.Resources = append(resp.Resources, packed)
		a.mu.Lock()
		a.served[name]++
		a.mu.Unlock()
	}
	return resp, nil
}

// secret is a certificate for the workload's own identity, or the bundle.
func (a *agent) secret(name string) (*tlsv3.Secret, error) {
	inline := func(b []byte) *core.DataSource {
		return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: b}}
	}
	switch name {
	case a.id:
		leaf, err := a.ca.Issue(a.id, time.Hour, time.Now())
		if err != nil {
			return nil, err
		}
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(leaf.Certificate), PrivateKey: inline(leaf.Key),
		}}}, nil
	case bundleName:
		validator, err := anypb.New(&tlsv3.SPIFFECertValidatorConfig{TrustDomains: []*tlsv3.SPIFFECertValidatorConfig_TrustDomain{
			{Name: trustDomain, TrustBundle: inline(a.ca.PEM)},
		}})
		if err != nil {
			return nil, err
		}
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			CustomValidatorConfig: &core.TypedExtensionConfig{Name: "envoy.tls.cert_validator.spiffe", TypedConfig: validator},
		}}}, nil
	}
	return nil, fmt.Errorf("the workload %s asks for %q", a.id, name)
}

var handshakes = regexp.MustCompile(`cluster\.kri_msvc_shop_[^ ]*backend[^ ]*\.ssl\.handshake: [1-9]`)

const spire = `type: MeshIdentity
mesh: shop
name: spire
spec:
  selector: {dataplane: {matchLabels: {}}}
  spiffeID: {trustDomain: spire.example, path: "/workload/{{ .Workload }}"}
  provider: {type: Spire, spire: {}}
---
type: MeshTrafficPermission
mesh: shop
name: client
spec: {rules: [{default: {allow: [{spiffeID: {type: Exact, value: "spiffe://spire.example/workload/%s"}}]}}]}
`

// TestSpire has proxies get their certificates from the agent beside them and not
// from the control plane: those allowed by identity get through, certificates are
// replaced under load.
func TestSpire(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := clustertest.New(t)
	zone, err := c.Zone(ctx, "east")
	if err != nil {
		t.Fatal(err)
	}
	apply := func(text string) {
		t.Helper()
		if out, errOut, code := clustertest.Ctl(t, c, zone.URL, text, "apply", "-f", "-"); code != 0 {
			t.Fatalf("atollctl apply: exit code %d\n%s%s", code, out, errOut)
		}
	}
	apply("type: Mesh\nname: shop\n---\n" + fmt.Sprintf(spire, "client"))
	domain := trustDomain
	pair, err := identity.NewCA(domain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadCA(pair, true)
	if err != nil {
		t.Fatal(err)
	}
	w := &clustertest.World{Cluster: c, Global: zone}
	agents := map[string]*agent{}
	start := func(workload string, spec cluster.ProxySpec) *cluster.Proxy {
		t.Helper()
		a, socket := newAgent(t, ca, "spiffe://"+trustDomain+"/workload/"+workload)
		agents[workload] = a
		spec.Mesh, spec.Name = "shop", workload+"-1"
		spec.Labels = map[string]string{"kuma.io/workload": workload}
		spec.Env = []string{"ATOLL_DATAPLANE_RUNTIME_SPIRE_SUPPORTED=true", "ATOLL_DATAPLANE_RUNTIME_SPIRE_SOCKET_PATH=" + socket}
		p, err := w.Proxy(ctx, zone, zone, spec)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	port, err := answering(t, "backend")
	if err != nil {
		t.Fatal(err)
	}
	start("backend", cluster.ProxySpec{AppPort: port})
	client := start("client", cluster.ProxySpec{Outbounds: map[int]string{nearPort: "backend"}})
	stranger := start("stranger", cluster.ProxySpec{Outbounds: map[int]string{nearPort: "backend"}})
	if err := cluster.WaitAnswer(ctx, clustertest.Patience, client.URL(nearPort)); err != nil {
		t.Fatal(err)
	}
	if s := cluster.Measure(ctx, stranger.URL(nearPort), 10); s.Failed != 10 || !strings.Contains(s.Last.Error(), "403") {
		t.Errorf("a stranger was answered %v, %v", s.Answers, s.Last)
	}
	// That the answers came by mutual TLS, Envoy counts.
	var stats string
	patient, cancel := context.WithTimeout(ctx, clustertest.Patience)
	defer cancel()
	err = cluster.Until(patient, "stats", func(ctx context.Context) error { // agents take questions soon after their start
		return zone.Do(ctx, http.MethodGet, "/meshes/shop/dataplanes/client-1/stats", nil, &stats)
	})
	if err != nil || !handshakes.MatchString(stats) {
		t.Errorf("there is no handshake with the backend: %v\n%s", err, stats)
	}

	load := cluster.Flow(every, client.URL(nearPort))
	for round := range 10 {
		for name, a := range agents {
			before := a.asked(a.id)
			a.rotate()
			ctx, cancel := context.WithTimeout(ctx, clustertest.Patience)
			err := cluster.Until(ctx, "another certificate", func(context.Context) error {
				if n := a.asked(a.id); n <= before {
					return fmt.Errorf("%s, round %d: %d", name, round, n)
				}
				return nil
			})
			cancel()
			if err != nil {
				t.Error(err)
			}
		}
		if s := cluster.Measure(ctx, client.URL(nearPort), 50); s.Failed > 0 { // on new connections too
			t.Errorf("round %d: %d failed: %v", round, s.Failed, s.Last)
		}
	}
	sent, failures := load.Stop()
	if sent == 0 || len(failures) > 0 {
		t.Errorf("%d requests, failed: %v", sent, failures)
	}
	t.Logf("%d requests while certificates were replaced: %d failed", sent, len(failures))
}
