package traffic

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// TrustDomain of every identity in a Mesh.
const TrustDomain = "default.east.mesh.local"

// Identify gives every proxy an identity, spiffe://TrustDomain/workload/ and its
// label kuma.io/workload, and lets everybody of the trust domain call.
func (m *Mesh) Identify(t testing.TB) {
	t.Helper()
	ca, err := identity.NewCA(TrustDomain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m.IdentifyBy(t, ca)
}

// IdentifyBy is Identify with the CA of a user.
func (m *Mesh) IdentifyBy(t testing.TB, ca identity.Pair) {
	t.Helper()
	var err error
	if m.ca, err = identity.LoadCA(ca, true); err != nil {
		t.Fatal(err)
	}
	anchors, err := m.ca.Anchors()
	if err != nil {
		t.Fatal(err)
	}
	var changes []store.Change
	for name, data := range map[string][]byte{"id-root-ca": ca.Certificate, "id-private-key": ca.Key} {
		k := m.kinds.ByType(kind.Secret)
		o, err := k.New(resource.Meta{ID: resource.ID{Type: kind.Secret, Mesh: "default", Name: name}, Created: epoch},
			&system_proto.Secret{Data: wrapperspb.Bytes(data)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := store.Put(o, store.Any, "test").Record
		r.Version, r.Created, r.Modified = m.rev+1, epoch, epoch
		changes = append(changes, store.Change{ID: o.ID, Record: &r})
	}
	m.commit(t, changes)
	m.Apply(t, fmt.Sprintf(`
type: MeshTrust
name: id
spec:
  trustDomain: %s
  caBundles: [{type: Pem, pem: {value: %q}}]
---
type: MeshIdentity
name: id
spec:
  selector: {dataplane: {matchLabels: {}}}
  provider: {type: Bundled, bundled: {insecureAllowSelfSigned: true, autogenerate: {enabled: true}, certificateParameters: {expiry: 24h}}}
status: {conditions: [{type: Ready, status: "True", reason: Ready, message: ""}]}`, TrustDomain, anchors)+everybody)
}

const everybody = `
---
type: MeshTrafficPermission
name: everybody
spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: "spiffe://` + TrustDomain + `"}}]}}]}`

// Certificate proves to be a workload.
func (m *Mesh) Certificate(t testing.TB, workload string) tls.Certificate {
	t.Helper()
	leaf, err := m.ca.Issue("spiffe://"+TrustDomain+"/workload/"+workload, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(leaf.Certificate, leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Entrance stands for the zone proxy of another zone and for the proxy of the one
// workload behind it: it answers mutual TLS with the certificate of a workload.
type Entrance struct {
	Server
	// Names counts connections by the server name that was asked for.
	Last atomic.Pointer[string]
}

// Entrance listens for HTTP of both versions, or with greeting for TCP.
func (m *Mesh) Entrance(t testing.TB, workload, greeting string, answer http.HandlerFunc) *Entrance {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &Entrance{}
	e.Port = l.Addr().(*net.TCPAddr).Port
	e.Answer.Store(&answer)
	conf := &tls.Config{
		Certificates: []tls.Certificate{m.Certificate(t, workload)}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"kuma"},
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { e.Last.Store(&h.ServerName); return nil, nil },
	}
	secure := plain{tls.NewListener(l, conf)}
	if greeting != "" {
		go greet(secure, greeting)
	} else {
		h := e.Server.handler()
		go func() { _ = h.Serve(secure) }()
		t.Cleanup(func() { _ = h.Close() })
	}
	t.Cleanup(func() { _ = l.Close() })
	return e
}

// plain hides from servers of HTTP that a connection is TLS: what was negotiated
// says nothing about the version of HTTP.
type plain struct{ net.Listener }

func (p plain) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil
}

// Zone makes a service of another zone that is reached by an entrance. It is
// called app and in the MeshMultiZoneServices that select app.
func (m *Mesh) Zone(t testing.TB, zone, app, protocol string, port int) {
	t.Helper()
	m.Apply(t, strings.NewReplacer("ZONE", zone, "APP", app, "PROTOCOL", protocol, "PORT", fmt.Sprint(port)).Replace(`
type: MeshService
name: APP-ZONE
labels: {kuma.io/origin: global, kuma.io/display-name: APP, kuma.io/zone: ZONE, app: APP-ZONE, everywhere: APP}
spec:
  state: Available
  ports: [{port: 80, name: main, targetPort: main, appProtocol: PROTOCOL}]
  identities: [{type: SpiffeID, value: "spiffe://`+TrustDomain+`/workload/APP"}]
---
type: MeshZoneAddress
name: ZONE-APP
labels: {kuma.io/origin: global, kuma.io/zone: ZONE}
spec: {address: 127.0.0.1, port: PORT}`))
}

// Outbound gives the client an outbound and returns its address.
func (m *Mesh) Outbound(t testing.TB, ref string) string {
	t.Helper()
	out := freePort(t)
	m.client = append(m.client, fmt.Sprintf("{port: %d, backendRef: %s}", out, ref))
	m.Apply(t, m.clientDataplane(t))
	m.Listening(t, out)
	return fmt.Sprintf("127.0.0.1:%d", out)
}
