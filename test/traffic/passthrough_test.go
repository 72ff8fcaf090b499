package traffic_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestPassthrough shows what a workload may reach that the mesh does not know.
func TestPassthrough(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Apply(t, fmt.Sprintf(`
type: Dataplane
name: redirected
labels: {app: redirected}
networking: {address: 127.0.0.1, inbound: [{port: %d, name: main, protocol: tcp}]}`, traffic.Dead(t)))
	o := &outside{out: m.Redirected(t, "redirected")}
	serve := func(s *httptest.Server) int {
		var err error
		if s.Listener, err = net.Listen("tcp", "0.0.0.0:0"); err != nil { // every address of this host
			t.Fatal(err)
		}
		return s.Listener.Addr().(*net.TCPAddr).Port
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "web "+r.Proto) }))
	o.web = serve(web)
	web.Config.Protocols = new(http.Protocols)
	web.Config.Protocols.SetHTTP1(true)
	web.Config.Protocols.SetUnencryptedHTTP2(true)
	web.Start()
	t.Cleanup(web.Close)
	secret := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") }))
	o.tls = serve(secret)
	secret.StartTLS()
	t.Cleanup(secret.Close)
	first, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	o.first = first.Addr().(*net.TCPAddr).Port
	go func() {
		for {
			c, err := first.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello\n")
			_ = c.Close()
		}
	}()

	for _, c := range []struct {
		conf    string
		yes, no []string
	}{
		{"{passthroughMode: All}", []string{"http 127.0.0.2 any.test", "tls 127.0.0.2 any.test", "first 127.0.0.2"}, nil},
		{"{passthroughMode: None}", nil, []string{"http 127.0.0.2 any.test", "tls 127.0.0.2 any.test", "first 127.0.0.2"}},
		{"{passthroughMode: Matched}", nil, []string{"http 127.0.0.2 any.test", "first 127.0.0.2"}},
		{"{passthroughMode: Matched, appendMatch: [{type: IP, value: 127.0.0.2, protocol: tcp}]}", []string{"first 127.0.0.2", "http 127.0.0.2 any.test"}, []string{"first 127.0.0.3", "http 127.0.0.3 any.test"}},
		{"{appendMatch: [{type: IP, value: 127.0.0.2, port: FIRST, protocol: tcp}]}", []string{"first 127.0.0.2"}, []string{"http 127.0.0.2 any.test"}},
		{"{appendMatch: [{type: IP, value: 127.0.0.2, port: FIRST, protocol: mysql}]}", []string{"first 127.0.0.2"}, []string{"first 127.0.0.3"}},
		{"{appendMatch: [{type: CIDR, value: 127.9.0.0/16, protocol: tcp}]}", []string{"http 127.9.1.1 any.test", "first 127.9.255.1"}, []string{"first 127.8.0.1"}},
		{"{appendMatch: [{type: CIDR, value: 127.9.0.0/16, port: WEB, protocol: http}]}", []string{"http 127.9.1.1 any.test"}, []string{"http 127.8.0.1 any.test"}},
		{"{appendMatch: [{type: IP, value: 127.0.0.2, port: TLS, protocol: tls}]}", []string{"tls 127.0.0.2 any.test"}, []string{"tls 127.0.0.3 any.test", "first 127.0.0.2"}},
		{"{appendMatch: [{type: Domain, value: one.test, port: TLS, protocol: tls}]}", []string{"tls 127.0.0.2 one.test", "tls 127.0.0.3 one.test"}, []string{"tls 127.0.0.2 two.test"}},
		{"{appendMatch: [{type: Domain, value: '*.one.test', protocol: tls}]}", []string{"tls 127.0.0.2 a.one.test"}, []string{"tls 127.0.0.2 one.test", "tls 127.0.0.2 a.two.test"}},
		{"{appendMatch: [{type: Domain, value: '*', protocol: tls}]}", []string{"tls 127.0.0.2 a.one.test"}, []string{"http 127.0.0.2 any.test"}},
		{"{appendMatch: [{type: Domain, value: one.test, port: WEB, protocol: http}]}", []string{"http 127.0.0.2 one.test", "http 127.0.0.3 one.test:WEB"}, []string{"http 127.0.0.2 two.test"}},
		{"{appendMatch: [{type: Domain, value: one.test, protocol: http}]}", []string{"http 127.0.0.2 one.test"}, []string{"http 127.0.0.2 two.test"}},
		{"{appendMatch: [{type: Domain, value: '*.one.test', port: WEB, protocol: http}]}", []string{"http 127.0.0.2 a.one.test", "http 127.0.0.2 a.b.one.test"}, []string{"http 127.0.0.2 one.test"}},
		{"{appendMatch: [{type: Domain, value: one.test, port: WEB, protocol: http2}]}", []string{"http2 127.0.0.2 one.test"}, []string{"http2 127.0.0.2 two.test"}},
		{"{appendMatch: [{type: Domain, value: one.test, port: WEB, protocol: grpc}]}", []string{"http2 127.0.0.2 one.test"}, []string{"http2 127.0.0.2 two.test"}},
		// What is for any port is also for those that others name.
		{"{appendMatch: [{type: IP, value: 127.0.0.2, protocol: tcp}, {type: IP, value: 127.0.0.3, port: FIRST, protocol: tcp}]}", []string{"first 127.0.0.2", "first 127.0.0.3", "http 127.0.0.2 any.test"}, []string{"http 127.0.0.3 any.test"}},
		{"{appendMatch: [{type: Domain, value: one.test, protocol: tls}, {type: Domain, value: two.test, port: TLS, protocol: tls}]}", []string{"tls 127.0.0.2 one.test", "tls 127.0.0.2 two.test"}, []string{"tls 127.0.0.2 three.test"}},
	} {
		conf := o.ports(c.conf)
		m.Apply(t, "type: MeshPassthrough\nname: passthrough\nspec: {default: "+conf+"}")
		for what, list := range map[bool][]string{true: c.yes, false: c.no} {
			for _, x := range list {
				got := ""
				end := time.Now().Add(15 * time.Second)
				for got = o.reach(o.ports(x)); (got == "") == what && time.Now().Before(end); got = o.reach(o.ports(x)) {
					time.Sleep(5 * time.Millisecond)
				}
				if (got != "") != what {
					t.Errorf("%s: %s is answered with %q", conf, x, got)
				}
			}
		}
	}
	for target, meant := range map[string]bool{"kind: Mesh": true, "kind: Dataplane": true, "kind: Dataplane, labels: {app: redirected}": true, "kind: Dataplane, labels: {app: other}": false} {
		m.Apply(t, "type: MeshPassthrough\nname: passthrough\nspec: {targetRef: {"+target+"}, default: {passthroughMode: None}}")
		traffic.Until(t, target, func() bool { return (o.reach("first 127.0.0.2") == "") == meant })
	}
	m.Remove(t, "MeshPassthrough", "passthrough")
	traffic.Until(t, "nothing passes after removal", func() bool { return o.reach("first 127.0.0.2") != "" })
}

// outside is what is not in the mesh: ports that every address of this host has.
type outside struct{ out, web, tls, first int }

func (o *outside) ports(s string) string {
	return strings.NewReplacer("WEB", fmt.Sprint(o.web), "TLS", fmt.Sprint(o.tls), "FIRST", fmt.Sprint(o.first)).Replace(s)
}

// dial connects as the kernel's redirection would.
func (o *outside) dial(address string, port int) (net.Conn, error) {
	c, err := net.Dial("tcp", local(o.out))
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	_, err = fmt.Fprintf(c, "PROXY TCP4 127.0.0.1 %s 1 %d\r\n", address, port)
	return c, err
}

// reach tells what answers: words are how, the address, and the name that is
// asked for.
func (o *outside) reach(what string) string {
	words := strings.Fields(what)
	if words[0] == "first" {
		c, err := o.dial(words[1], o.first)
		if err != nil {
			return ""
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		line, _ := bufio.NewReader(c).ReadString('\n')
		return line
	}
	port, scheme := o.web, "http"
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(words[0] != "http2")
	tr.Protocols.SetUnencryptedHTTP2(words[0] == "http2")
	if words[0] == "tls" {
		port, scheme = o.tls, "https"
	}
	tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return o.dial(words[1], port) }
	resp, err := (&http.Client{Transport: tr, Timeout: 2 * time.Second}).Get(scheme + "://" + words[2] + "/")
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		return ""
	}
	return string(b)
}
