package compile

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/envoy/envoytest"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// testCA is a certificate that vouches for itself.
const (
	testCA = `-----BEGIN CERTIFICATE-----
MIIBgzCCASmgAwIBAgIUIxy71QmXdvnhdnGGLwgv7ZC4SOIwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLcGF5LmV4YW1wbGUwIBcNMjYxMTIyMTY1MzE1WhgPMjEyNjEw
MjkxNjUzMTVaMBYxFDASBgNVBAMMC3BheS5leGFtcGxlMFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEGoq1dNcgSIrVBwTNLNeKC986Qk8vc9TIczXBpewRX3uS9uOs
deL3NeDWSXnIcf21fvZDrpbLrHs9gPHeMWf9FKNTMFEwHQYDVR0OBBYEFAjN2G4/
oKCNEu5/ZTzEgNUsEfSqMB8GA1UdIwQYMBaAFAjN2G4/oKCNEu5/ZTzEgNUsEfSq
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgf6pVOZ2gt+oeOT0D
EwQjdo3N4sJHLlMNRrJ4GywU1wwCIQDAmYwTrKtrHsKCmmwh88IWlydVLJyO7sF7
iWi/UYBlUw==
-----END CERTIFICATE-----
`
	testKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzOfDQ9lK0yyvSyYW
nYSZa/KUXJqUEuR4c3nMoNfvLJahRANCAAQairV01yBIitUHBM0s14oL3zpCTy9z
1MhzNcGl7BFfe5L246x14vc14NZJechx/bV+9kOulsusez2A8d4xZ/0U
-----END PRIVATE KEY-----
`
)

const external = `
type: MeshExternalService
mesh: default
name: payments
spec:
  match: {port: 443, protocol: http}
  endpoints:
  - {address: backup.pay.example, port: 443, priority: 5}
  - {address: api.pay.example, port: 443, priority: 1}
  - {address: 198.51.100.1, port: 8443, priority: 1}
  tls:
    enabled: true
    version: {min: TLS12, max: TLSAuto}
    verification:
      subjectAltNames: [{type: Prefix, value: "spiffe://pay/"}]
      caCert: {type: Secret, secretRef: {kind: Secret, name: ca}}
      clientCert: {type: Secret, secretRef: {kind: Secret, name: ca}}
      clientKey: {type: Secret, secretRef: {kind: Secret, name: key}}
---
type: MeshExternalService
mesh: default
name: database
spec:
  match: {port: 5432, protocol: tcp}
  endpoints: [{address: 198.51.100.7, port: 5432}]
  tls: {enabled: true, verification: {mode: SkipCA, serverName: db.example}}
---
type: MeshExternalService
mesh: default
name: plain
spec:
  match: {port: 50051, protocol: grpc}
  endpoints: [{address: 198.51.100.9, port: 50051}]
---
type: MeshExternalService
mesh: default
name: without-secret
spec:
  match: {port: 80, protocol: http}
  endpoints: [{address: 198.51.100.8, port: 80}]
  tls: {enabled: true, verification: {caCert: {type: Secret, secretRef: {kind: Secret, name: missing}}}}
---
type: MeshExternalService
mesh: default
name: nowhere
spec:
  match: {port: 80, protocol: http}
---
type: Dataplane
mesh: default
name: egress
networking:
  address: 192.0.2.20
  listeners: [{type: ZoneEgress, address: 192.0.2.20, port: 10002, name: out}]
`

// egressOf compiles the audience of an egress whose identity is given.
func egressOf(t *testing.T, w *world, client *mutual) (*ir.Config, []Warning) {
	t.Helper()
	info := dataplane("egress")
	dp := w.view.Snapshot().Get(info.ID)
	r := view.NewReader(w.view.Snapshot())
	m := newIndex(w.e.in.Policies, r, "default").Match(policy.ProxyOf(dp), policy.Options{})
	p := newPlan(r, "default", east, shapeOf(&info, dp), m, &w.e.in.Settings, client)
	cfg := &ir.Config{}
	for i := range p.outbounds {
		u, l, routes := p.buildIR(i)
		p.units[i] = u
		cfg.Listeners, cfg.Routes = append(cfg.Listeners, l), append(cfg.Routes, routes...)
	}
	p.collectClusters()
	for i := range p.clusters {
		_, c := p.buildCluster(i)
		cfg.Clusters = append(cfg.Clusters, c)
	}
	return cfg, p.warn.list
}

// An egress lets in who proves an identity, tells destinations apart by their
// server names, and speaks to each as its MeshExternalService says.
func TestEgress(t *testing.T) {
	w := newWorld(t)
	w.apply(external + "---" + secretDoc("ca", testCA) + "---" + secretDoc("key", testKey))

	if cfg, warn := egressOf(t, w, nil); len(cfg.Listeners) > 0 || len(warn) != 1 || !strings.Contains(warn[0].Text, "identity") {
		t.Fatalf("without identity: %+v, %v", cfg, warn)
	}
	client := &mutual{Certificate: ir.SecretRef{Name: "kri_mid_default___id_"}, Trust: ir.SecretRef{Name: "system_trust_bundle"}}
	cfg, warn := egressOf(t, w, client)
	if len(cfg.Listeners) != 1 || len(warn) != 1 || !strings.Contains(warn[0].Text, `no Secret "missing"`) {
		t.Fatalf("%+v, %v", cfg, warn)
	}
	var names []string
	for _, c := range cfg.Listeners[0].Chains {
		names = append(names, c.Match.ServerNames[0])
		if c.TLS == nil || c.TLS.Certificate != client.Certificate || c.Match.TransportProtocol != "tls" || (c.HTTP == nil) == (c.TCP == nil) {
			t.Errorf("chain %+v", c)
		}
	}
	want := "sni.extsvc.default.east.database.5432 sni.extsvc.default.east.payments.443 sni.extsvc.default.east.plain.50051"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("server names %s, want %s", got, want)
	}
	clusters := map[string]*ir.Cluster{}
	for _, c := range cfg.Clusters {
		clusters[c.Name] = c
	}
	pay := clusters["kri_extsvc_default_east__payments_443"]
	if pay.Type != ir.StrictDNS || len(pay.Localities) != 2 || len(pay.Localities[0].Endpoints) != 2 ||
		pay.Localities[1].SubZone != "priority-5" || pay.Localities[1].Priority != 1 {
		t.Errorf("localities %+v", pay.Localities)
	}
	if x := pay.External; x.ServerName != "backup.pay.example" || len(x.Names) != 2 || x.CA != testCA || x.Cert != testCA ||
		string(x.Key) != testKey || x.MinVersion != "TLS12" || x.MaxVersion != "" {
		t.Errorf("TLS %+v", x)
	}
	if d := clusters["kri_extsvc_default_east__database_5432"]; d.Type != ir.Static || d.External.CA+d.External.CAFile != "" || len(d.External.Names) > 0 {
		t.Errorf("without CA: %+v", d.External)
	}
	if p := clusters["kri_extsvc_default_east__plain_50051"]; p.External != nil || p.Protocol != ir.GRPC {
		t.Errorf("plain: %+v", p)
	}
	envoytest.Validate(t, map[string]*ir.Config{"egress": cfg})
}

// TestExternalTLS walks through the modes of verification.
func TestExternalTLS(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		verification, systemCA string
		want                   string // error, or what is verified
	}{
		{"", "/ca.pem", "/ca.pem Exact:198.51.100.7"},
		{"", "", "caCert is not set"},
		{"serverName: a.example", "/ca.pem", "/ca.pem a.example Exact:a.example"},
		{"mode: SkipSAN, serverName: a.example", "/ca.pem", "/ca.pem a.example"},
		{"mode: SkipCA, serverName: a.example", "/ca.pem", "a.example"},
		{"mode: SkipAll, clientCert: {type: InsecureInline, insecureInline: {value: c}}, clientKey: {type: InsecureInline, insecureInline: {value: k}}", "/ca.pem", ""},
		{"mode: SkipCA, clientCert: {type: InsecureInline, insecureInline: {value: c}}, clientKey: {type: InsecureInline, insecureInline: {value: k}}", "/ca.pem", "cert:c key:k"},
		{"caCert: {type: InsecureInline, insecureInline: {value: mine}}, subjectAltNames: [{type: Prefix, value: x}, {type: Exact, value: 198.51.100.7}]", "/ca.pem", "mine Exact:198.51.100.7 Prefix:x"},
	} {
		doc := "type: MeshExternalService\nmesh: default\nname: db\nspec:\n  match: {port: 1, protocol: tcp}\n  endpoints: [{address: 198.51.100.7, port: 5432}]\n  tls: {enabled: true, verification: {" + c.verification + "}}"
		w.apply(strings.ReplaceAll(doc, ", verification: {}", ""))
		x := newResolver(view.NewReader(w.view.Snapshot()), "default", east)
		e, err := x.exit(x.all()[0], "cluster", c.systemCA)
		if err != nil {
			if c.want == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("{%s}: %v, want %q", c.verification, err, c.want)
			}
			continue
		}
		tls := e.cluster.External
		words := []string{tls.CA, tls.CAFile, tls.ServerName}
		for _, n := range tls.Names {
			words = append(words, n.Kind+":"+n.Value)
		}
		if tls.Cert != "" {
			words = append(words, "cert:"+tls.Cert, "key:"+string(tls.Key))
		}
		if got := strings.Join(strings.Fields(strings.Join(words, " ")), " "); got != c.want {
			t.Errorf("{%s}: %q, want %q", c.verification, got, c.want)
		}
	}
}

// A private key is in no form of IR that is shown.
func TestExternalKeyIsHidden(t *testing.T) {
	js := toJSON(t, ir.ExternalTLS{Key: testKey})
	if strings.Contains(js, "PRIVATE") {
		t.Error(js)
	}
}

// A proxy that is both a workload and an ingress calls services and lets others
// in to them: two clusters for one destination, with names of their own.
func TestZoneProxyBesideWorkload(t *testing.T) {
	w := newWorld(t)
	w.apply(`type: MeshService
mesh: default
name: cart
spec:
  selector: {dataplaneLabels: {matchLabels: {app: cart}}}
  ports: [{port: 80, name: api, targetPort: api, appProtocol: http}]
---
type: Dataplane
mesh: default
name: both
labels: {app: cart}
networking:
  address: 192.0.2.20
  inbound: [{port: 8080, name: api, protocol: http}]
  outbound: [{port: 10080, backendRef: {kind: MeshService, name: cart}}]
  listeners: [{type: ZoneIngress, address: 192.0.2.20, port: 10001, name: in}]`)
	p := w.attach(dataplane("both"))
	w.check()
	for _, name := range []string{"kri_msvc_default_east__cart_api", "zoneproxy_kri_msvc_default_east__cart_api"} {
		served(t, p, xds.Clusters, name)
		served(t, p, xds.Endpoints, name)
	}
	before, _ := served(t, p, xds.Listeners, "self_zoneingress_dp_in")

	// A pod that comes concerns endpoints only.
	w.apply("type: Dataplane\nmesh: default\nname: more\nlabels: {app: cart}\nnetworking: {address: 192.0.2.21, inbound: [{port: 8080, name: api}]}")
	stats := w.e.Stats()
	w.e.step()
	w.check()
	if s := w.e.Stats(); s.OutboundsCompiled != stats.OutboundsCompiled || s.ClustersCompiled != stats.ClustersCompiled {
		t.Errorf("compiled more than endpoints: %+v, before %+v", s, stats)
	}
	// Without services there is no listener.
	w.remove(resource.ID{Type: "MeshService", Mesh: "default", Name: "cart"})
	w.e.step()
	w.check()
	if r := p.Set().Source(xds.Listeners).Get("self_zoneingress_dp_in"); r != nil || before == "" {
		t.Error("an ingress to which nothing leads listens")
	}
}

// secretDoc is a Secret as users write it.
func secretDoc(name, value string) string {
	return "\ntype: Secret\nmesh: default\nname: " + name + "\ndata: " + base64.StdEncoding.EncodeToString([]byte(value)) + "\n"
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
