package traffic_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestIdentities shows what policies make of who calls: who may, with which TLS,
// and what is only for some clients.
func TestIdentities(t *testing.T) {
	t.Parallel()
	w := startWide(t)
	t.Run("MeshTrafficPermission", w.permissions)
	t.Run("MeshTrafficPermission/shadow", w.shadow)
	t.Run("MeshTrafficPermission/server names", w.permissionsOfNames)
	t.Run("MeshTLS/mode", w.modes)
	t.Run("MeshTLS/versions", w.versions)
	t.Run("MeshTLS/ciphers", w.ciphers)
	t.Run("clients", w.someClients)
	t.Run("server names", w.someNames)
	t.Run("pretenders", w.pretenders)
	t.Run("MeshAccessLog/egress", w.logsOfConnections)
	t.Run("MeshProxyPatch/egress", w.patchesOfEgress)
}

// as calls the shop as a workload, on a new connection, straight at its Envoy.
func (w *wide) as(t *testing.T, workload, path string) int {
	t.Helper()
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{w.Certificate(t, workload)}},
	}}
	resp, err := c.Get(fmt.Sprintf("https://127.0.0.1:%d%s", w.in, path))
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// bytesAs tells whether the TCP of the shop goes on with a workload.
func (w *wide) bytesAs(t *testing.T, workload string) bool {
	t.Helper()
	c, err := tls.Dial("tcp", local(w.tcp), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{w.Certificate(t, workload)}})
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "hello")
	_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		if _, err := c.Read(make([]byte, 64)); err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

func spiffe(workload string) string {
	return fmt.Sprintf("%q", "spiffe://"+traffic.TrustDomain+"/workload/"+workload)
}

const everybody = `
type: MeshTrafficPermission
name: everybody
spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: "spiffe://` + traffic.TrustDomain + `"}}]}}]}`

func (w *wide) permissions(t *testing.T) {
	apply := func(target, conf string) {
		t.Helper()
		w.Apply(t, fmt.Sprintf("type: MeshTrafficPermission\nname: permission\nspec: {targetRef: {%s}, rules: [{default: %s}]}", target, conf))
	}
	w.Remove(t, "MeshTrafficPermission", "everybody")
	traffic.Until(t, "somebody may call without a policy", func() bool { return w.as(t, "client", "/") == 403 && !w.bytesAs(t, "client") })
	const client, stranger, clients = "client", "stranger", "clients"
	for _, c := range []struct {
		conf    string
		allowed []string
	}{
		{"{allow: [{spiffeID: {type: Exact, value: " + spiffe(client) + "}}]}", []string{client}},
		{"{allow: [{spiffeID: {type: Prefix, value: " + spiffe(client) + "}}]}", []string{client, clients}},
		{"{allow: [{spiffeID: {type: Exact, value: " + spiffe(client) + "}}, {spiffeID: {type: Exact, value: " + spiffe(stranger) + "}}]}", []string{client, stranger}},
		{"{allow: [{spiffeID: {type: Prefix, value: " + spiffe(client) + "}}], deny: [{spiffeID: {type: Exact, value: " + spiffe(clients) + "}}]}", []string{client}},
		{"{allow: [{spiffeID: {type: Exact, value: " + spiffe(client) + "}}], deny: [{spiffeID: {type: Prefix, value: " + spiffe(client) + "}}]}", nil},
		{"{allowWithShadowDeny: [{spiffeID: {type: Prefix, value: " + spiffe(client) + "}}, {spiffeID: {type: Exact, value: " + spiffe(stranger) + "}}]}", []string{client, clients, stranger}},
	} {
		apply("kind: Dataplane, labels: {app: server}", c.conf)
		for _, who := range []string{client, stranger, clients} {
			want := slices.Contains(c.allowed, who)
			traffic.Until(t, fmt.Sprintf("%s: %s may call: want %v, got %d", c.conf, who, want, w.as(t, who, "/")), func() bool {
				return (w.as(t, who, "/") == 200) == want && (w.as(t, who, "/") == 403) == !want && w.bytesAs(t, who) == want
			})
		}
	}
	one := "{allow: [{spiffeID: {type: Exact, value: " + spiffe(client) + "}}]}"
	for _, c := range []struct {
		target    string
		http, tcp bool
	}{
		{"kind: Dataplane, labels: {app: server}, sectionName: main", true, false},
		{"kind: Dataplane, sectionName: bytes", false, true},
		{"kind: Dataplane, labels: {app: client}", false, false},
		{"kind: Mesh", true, true},
	} {
		apply(c.target, one)
		traffic.Until(t, c.target, func() bool { return (w.as(t, client, "/") == 200) == c.http && w.bytesAs(t, client) == c.tcp })
	}
	w.Remove(t, "MeshTrafficPermission", "permission")
	w.Apply(t, everybody)
	traffic.Until(t, "not everybody may call", func() bool { return w.as(t, client, "/") == 200 && w.bytesAs(t, client) })
}

// shadow: what is let in for now is counted as refused.
func (w *wide) shadow(t *testing.T) {
	w.Apply(t, `
type: MeshTrafficPermission
name: shadow
spec: {rules: [{default: {allowWithShadowDeny: [{spiffeID: {type: Exact, value: `+spiffe("stranger")+`}}]}}]}`)
	denied := func() int { return w.shop("http.self_inbound_dp_main.rbac.shadow_denied") }
	traffic.Until(t, "a shadow denial is not counted", func() bool {
		before := denied()
		status := w.as(t, "stranger", "/")
		if status != 200 {
			t.Errorf("it is refused: %d", status)
		}
		return denied() > before
	})
	w.Remove(t, "MeshTrafficPermission", "shadow")
}

const payName = "sni.extsvc.default.east.pay.443"

// permissionsOfNames: at an egress, who may call what outside.
func (w *wide) permissionsOfNames(t *testing.T) {
	w.Remove(t, "MeshTrafficPermission", "everybody")
	for _, c := range []struct {
		conf string
		may  bool
	}{
		{"{allow: [{spiffeID: {type: Exact, value: " + spiffe("client") + "}, sni: {type: Exact, value: " + payName + "}}]}", true},
		{"{allow: [{spiffeID: {type: Exact, value: " + spiffe("other") + "}, sni: {type: Exact, value: " + payName + "}}]}", false},
		{"{allow: [{sni: {type: Exact, value: " + payName + "}}]}", true},
		{"{allow: [{sni: {type: Exact, value: sni.extsvc.default.east.pay-bytes.81}}]}", false},
		{"{allow: [{spiffeID: {type: Exact, value: " + spiffe("client") + "}}], deny: [{sni: {type: Exact, value: " + payName + "}}]}", false},
		{"{allowWithShadowDeny: [{sni: {type: Exact, value: " + payName + "}}]}", true},
	} {
		w.Apply(t, "type: MeshTrafficPermission\nname: names\nspec: {targetRef: {kind: Dataplane, labels: {app: egress}, sectionName: out}, rules: [{default: "+c.conf+"}]}")
		want, got := map[bool]int{true: 200, false: 403}[c.may], 0
		for end := time.Now().Add(5 * time.Second); got != want && time.Now().Before(end); {
			got = w.get(t, "MeshExternalService", "/").Status
		}
		if got != want {
			t.Errorf("%s: %d, want %d", c.conf, got, want)
		}
	}
	w.Remove(t, "MeshTrafficPermission", "names")
	w.Apply(t, everybody)
}

// modes: who brings no certificate is refused, or let in by a permissive inbound,
// also with TLS that only the application understands.
func (w *wide) modes(t *testing.T) {
	plain := func() bool {
		c, err := net.Dial("tcp", local(w.in))
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(c)
		return strings.HasPrefix(string(b), "HTTP/1.1 200")
	}
	for _, c := range []struct {
		target, mode string
		open         bool
	}{
		{"kind: Mesh", "Strict", false},
		{"kind: Mesh", "Permissive", true},
		{"kind: Dataplane, labels: {app: server}, sectionName: main", "Permissive", true},
		{"kind: Dataplane, labels: {app: server}, sectionName: bytes", "Permissive", false},
		{"kind: Dataplane, labels: {app: server}", "Permissive", true},
	} {
		w.Apply(t, fmt.Sprintf("type: MeshTLS\nname: mode\nspec: {targetRef: {%s}, rules: [{default: {mode: %s}}]}", c.target, c.mode))
		traffic.Until(t, fmt.Sprintf("%s of %s: in the clear %v", c.mode, c.target, plain()), func() bool { return plain() == c.open })
		if got := w.get(t, "MeshService", "/"); got.Status != 200 {
			t.Errorf("%s: with mutual TLS %d", c.mode, got.Status)
		}
	}
	w.Remove(t, "MeshTLS", "mode")
	traffic.Until(t, "strictness does not return", func() bool { return !plain() })
}

// handshake offers some TLS and returns what was agreed on.
func (w *wide) handshake(t *testing.T, low, high uint16, suites ...uint16) (version, suite uint16) {
	t.Helper()
	c, err := tls.Dial("tcp", local(w.in), &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{w.Certificate(t, "client")}, MinVersion: low, MaxVersion: high, CipherSuites: suites,
	})
	if err != nil {
		return 0, 0
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().Version, c.ConnectionState().CipherSuite
}

func (w *wide) versions(t *testing.T) {
	numbers := map[string]uint16{"TLS10": tls.VersionTLS10, "TLS11": tls.VersionTLS11, "TLS12": tls.VersionTLS12, "TLS13": tls.VersionTLS13}
	all := []string{"TLS10", "TLS11", "TLS12", "TLS13"}
	for _, c := range []struct {
		conf string
		want []string // versions that work
	}{
		{"{min: TLSAuto, max: TLSAuto}", []string{"TLS12", "TLS13"}},
		{"{min: TLS13}", []string{"TLS13"}},
		{"{max: TLS12}", []string{"TLS12"}},
		{"{min: TLS12, max: TLS12}", []string{"TLS12"}},
		{"{min: TLS13, max: TLS13}", []string{"TLS13"}},
		{"{min: TLS10, max: TLS12}", []string{"TLS10", "TLS11", "TLS12"}},
		{"{min: TLS11, max: TLS11}", []string{"TLS11"}},
		{"{min: TLS10, max: TLS10}", []string{"TLS10"}},
		{"{max: TLS11}", []string{"TLS11"}},
		{"{min: TLS10}", all},
	} {
		w.Apply(t, "type: MeshTLS\nname: versions\nspec: {targetRef: {kind: Mesh}, rules: [{default: {tlsVersion: "+c.conf+"}}]}")
		works := func() (out []string) {
			for _, v := range all {
				if got, _ := w.handshake(t, numbers[v], numbers[v]); got == numbers[v] {
					out = append(out, v)
				}
			}
			return out
		}
		var got []string
		end := time.Now().Add(5 * time.Second)
		for got = works(); !slices.Equal(got, c.want) && time.Now().Before(end); got = works() {
			time.Sleep(5 * time.Millisecond)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.conf, got, c.want)
		}
		// The clients of the mesh speak what its servers ask for.
		traffic.Until(t, c.conf+": clients of the mesh cannot call", func() bool { return w.get(t, "MeshService", "/").Status == 200 })
	}
	w.Remove(t, "MeshTLS", "versions")
}

func (w *wide) ciphers(t *testing.T) {
	suites := map[string]uint16{
		"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-AES128-GCM-SHA256": tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-RSA-AES256-GCM-SHA384": tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-CHACHA20-POLY1305": tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	for name, suite := range suites {
		w.Apply(t, "type: MeshTLS\nname: ciphers\nspec: {targetRef: {kind: Mesh}, rules: [{default: {tlsVersion: {max: TLS12}, tlsCiphers: ["+name+"]}}]}")
		// Keys of the mesh are ECDSA: a suite for RSA stands for the same one for them.
		own := suites[strings.Replace(name, "-RSA-", "-ECDSA-", 1)]
		traffic.Until(t, name+" is not what is agreed on", func() bool {
			_, got := w.handshake(t, tls.VersionTLS12, tls.VersionTLS12)
			_, only := w.handshake(t, tls.VersionTLS12, tls.VersionTLS12, suite)
			return got == own && (only == suite) == (own == suite)
		})
		traffic.Until(t, name+": clients of the mesh cannot call", func() bool { return w.get(t, "MeshService", "/").Status == 200 })
	}
	w.Remove(t, "MeshTLS", "ciphers")
	traffic.Until(t, "clients of the mesh cannot call", func() bool { return w.get(t, "MeshService", "/").Status == 200 })
}

// someClients: limits, faults and timeouts for clients with some identity.
func (w *wide) someClients(t *testing.T) {
	for _, kind := range []struct {
		policy, conf, path string
		hit                int
	}{
		{"MeshRateLimit", "{local: {http: {requestRate: {num: 1, interval: 1h}}}}", "/", 429},
		{"MeshFaultInjection", "{http: [{abort: {httpStatus: 418, percentage: 100}}]}", "/", 418},
		{"MeshTimeout", "{http: {requestTimeout: 50ms}}", "/slow", 504},
	} {
		for _, c := range []struct {
			match string
			hit   map[string]bool
		}{
			{"{spiffeID: {type: Exact, value: " + spiffe("client") + "}}", map[string]bool{"client": true}},
			{"{spiffeID: {type: Prefix, value: " + spiffe("client") + "}}", map[string]bool{"client": true, "clients": true}},
			{"{spiffeID: {type: Exact, value: " + spiffe("client") + "}, sni: {type: Exact, value: other.test}}", nil},
			{"{spiffeID: {type: Exact, value: " + spiffe("client") + "}}, {spiffeID: {type: Exact, value: " + spiffe("stranger") + "}}", map[string]bool{"client": true, "stranger": true}},
		} {
			w.Apply(t, fmt.Sprintf("type: %s\nname: some\nspec: {targetRef: {kind: Dataplane, labels: {app: server}}, rules: [{matches: [%s], default: %s}]}", kind.policy, c.match, kind.conf))
			for _, who := range []string{"client", "clients", "stranger"} {
				want := 200
				if c.hit[who] {
					want = kind.hit
				}
				// Right after a change connections may still be taken by what was there.
				end := time.Now().Add(5 * time.Second)
				got := 0
				for n := 0; n < 3 && time.Now().Before(end); {
					if got = w.as(t, who, kind.path); got == want {
						n++ // a limit lets the first through
						if want == kind.hit || kind.policy == "MeshTimeout" {
							break
						}
					}
				}
				if got != want {
					t.Errorf("%s %s: %s gets %d, want %d", kind.policy, c.match, who, got, want)
				}
			}
		}
		w.Remove(t, resource.Type(kind.policy), "some")
	}
}

// someNames: at an egress, for what is called by one name.
func (w *wide) someNames(t *testing.T) {
	for _, kind := range []struct {
		policy, conf, path string
		hit                int
	}{
		{"MeshRateLimit", "{local: {http: {requestRate: {num: 1, interval: 1h}}}}", "/", 429},
		{"MeshFaultInjection", "{http: [{abort: {httpStatus: 418, percentage: 100}}]}", "/", 418},
		{"MeshTimeout", "{http: {requestTimeout: 50ms}}", "/slow", 504},
	} {
		const pay, other = "sni: {type: Exact, value: " + payName + "}", "sni: {type: Exact, value: sni.extsvc.default.east.pay-bytes.81}"
		me, stranger := "spiffeID: {type: Exact, value: "+spiffe("client")+"}", "spiffeID: {type: Exact, value: "+spiffe("stranger")+"}"
		for _, c := range []struct {
			match string
			hit   bool
		}{{pay, true}, {other, false}, {me, true}, {stranger, false}, {me + ", " + pay, true}, {stranger + ", " + pay, false}, {me + ", " + other, false}} {
			want := map[bool]int{true: kind.hit, false: 200}[c.hit]
			w.Apply(t, fmt.Sprintf("type: %s\nname: some\nspec: {targetRef: {kind: Dataplane, labels: {app: egress}}, rules: [{matches: [{%s}], default: %s}]}", kind.policy, c.match, kind.conf))
			traffic.Until(t, fmt.Sprintf("%s for %s: not %d", kind.policy, c.match, want), func() bool { return w.get(t, "MeshExternalService", kind.path).Status == want })
		}
		w.Remove(t, resource.Type(kind.policy), "some")
		traffic.Until(t, kind.policy+" stays", func() bool { return w.get(t, "MeshExternalService", kind.path).Status == 200 })
	}
}

// pretenders: who only says who it is, in the header that a proxy writes for its
// application, is nobody, with mutual TLS and without.
func (w *wide) pretenders(t *testing.T) {
	w.Apply(t, "type: MeshTLS\nname: open\nspec: {targetRef: {kind: Dataplane, labels: {app: server}}, rules: [{default: {mode: Permissive}}]}\n---\n"+
		"type: MeshFaultInjection\nname: some\nspec: {targetRef: {kind: Dataplane, labels: {app: server}}, rules: [{matches: [{spiffeID: {type: Prefix, value: "+spiffe("client")+"}}], default: {http: [{abort: {httpStatus: 418, percentage: 100}}]}}]}")
	ask := func(scheme, workload string) int {
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		if scheme == "https" {
			c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{
				InsecureSkipVerify: true, Certificates: []tls.Certificate{w.Certificate(t, workload)}, NextProtos: []string{"kuma"},
			}
		}
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("%s://127.0.0.1:%d/", scheme, w.in), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-forwarded-client-cert", "By=spiffe://x;Hash=00;URI="+strings.Trim(spiffe("client"), `"`))
		resp, err := c.Do(req)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	traffic.Until(t, "who is the client is not taken for it", func() bool { return ask("https", "client") == 418 })
	if got := ask("https", "stranger"); got != 200 {
		t.Errorf("a stranger that says that it is the client: %d", got)
	}
	if got := ask("http", ""); got != 200 {
		t.Errorf("somebody in the clear that says that it is the client: %d", got)
	}
	w.Remove(t, "MeshFaultInjection", "some")
	w.Remove(t, "MeshTLS", "open")
}

// logsOfConnections: zone proxies log a connection when it is established, since
// those of proxies stay.
func (w *wide) logsOfConnections(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	w.Apply(t, "type: MeshAccessLog\nname: egress\nspec: {targetRef: {kind: Dataplane, labels: {app: egress}}, rules: [{default: {backends: [{type: File, file: {path: "+file+", format: {type: Plain, plain: '%ACCESS_LOG_TYPE% %KUMA_TRAFFIC_DIRECTION%'}}}]}}]}")
	traffic.Until(t, "a connection that goes on is not logged", func() bool {
		c, err := net.Dial("tcp", w.at["tcp MeshExternalService"])
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Read(make([]byte, 1)); err != nil { // it is established on the whole way
			return false
		}
		<-time.After(50 * time.Millisecond) // lines wait for others
		b, _ := os.ReadFile(file)
		return strings.Contains(string(b), "TcpUpstreamConnected UNSPECIFIED")
	})
	w.Remove(t, "MeshAccessLog", "egress")
}
