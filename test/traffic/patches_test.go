package traffic_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestPatches applies every operation to every kind of message that a
// MeshProxyPatch may change, and sees it in traffic.
func TestPatches(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	app := traffic.Serve(t, traffic.Status(200))
	p := &patches{Mesh: m, name: "kri_msvc_default_east__patched_main", app: app.Port}
	p.at = m.Service(t, "patched", "http", nil, app.Port)
	_, port, _ := net.SplitHostPort(p.at)
	p.port = port
	t.Run("json", p.json)
	t.Run("matches", p.matches)
	t.Run("filters", p.filters)
	t.Run("add and remove", p.addAndRemove)
}

type patches struct {
	*traffic.Mesh
	name     string // of the listener, the routes, the virtual host and the cluster
	at, port string
	app      int
}

func (p *patches) apply(t *testing.T, target string, modifications ...string) {
	t.Helper()
	p.Apply(t, "type: MeshProxyPatch\nname: patch\nspec: {targetRef: {"+target+"}, default: {appendModifications: ["+strings.Join(modifications, ", ")+"]}}")
}

// seen is what a request shows: refused, a status other than 200, or headers of
// the response.
func (p *patches) seen(t *testing.T, header string) string {
	c, err := net.Dial("tcp", p.at)
	if err != nil {
		return "refused"
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	var b [4096]byte
	n := 0
	for n < len(b) {
		k, err := c.Read(b[n:])
		if n += k; err != nil {
			break
		}
	}
	lines := strings.Split(string(b[:n]), "\r\n")
	words := strings.Fields(lines[0])
	if len(words) < 2 {
		return "closed"
	}
	if words[1] != "200" {
		return words[1]
	}
	for _, l := range lines {
		if v, ok := strings.CutPrefix(l, header+": "); ok {
			return v
		}
	}
	return ""
}

func (p *patches) want(t *testing.T, what, header, want string) {
	t.Helper()
	var got string
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if got = p.seen(t, header); got == want || want == "some" && got != "" {
			return
		}
	}
	t.Errorf("%s: %q, want %q", what, got, want)
}

func (p *patches) json(t *testing.T) {
	const (
		limit = "/circuitBreakers/thresholds/0/maxRequests"
		match = "/filterChains/0/filterChainMatch"
	)
	closed := "{op: add, path: " + match + ", value: {destinationPort: 1}}"
	for _, c := range []struct{ kind, ops, header, want string }{
		{"cluster", "{op: add, path: " + limit + ", value: 0}", "", "503"},
		{"cluster", "{op: add, path: " + limit + ", value: 5}, {op: replace, path: " + limit + ", value: 0}", "", "503"},
		{"cluster", "{op: add, path: " + limit + ", value: 0}, {op: remove, path: " + limit + "}", "", ""},
		{"cluster", "{op: add, path: /circuitBreakers/thresholds/0/maxRetries, value: 0}, {op: copy, from: /circuitBreakers/thresholds/0/maxRetries, path: " + limit + "}", "", "503"},
		{"cluster", "{op: add, path: /circuitBreakers/thresholds/0/maxRetries, value: 0}, {op: move, from: /circuitBreakers/thresholds/0/maxRetries, path: " + limit + "}", "", "503"},

		{"listener", closed, "", "closed"},
		{"listener", closed + ", {op: replace, path: " + match + "/destinationPort, value: " + p.port + "}", "", ""},
		{"listener", closed + ", {op: remove, path: " + match + "}", "", ""},
		{"listener", closed + ", {op: copy, from: /address/socketAddress/portValue, path: " + match + "/destinationPort}", "", ""},
		{"listener", closed + ", {op: move, from: /filterChains/0, path: /defaultFilterChain}", "", ""},

		{"networkFilter", "{op: add, path: /serverName, value: me}", "server", "me"},
		{"networkFilter", "{op: add, path: /serverName, value: me}, {op: replace, path: /serverName, value: you}", "server", "you"},
		{"networkFilter", "{op: add, path: /serverName, value: me}, {op: remove, path: /serverName}", "server", "envoy"},
		{"networkFilter", "{op: add, path: /via, value: me}, {op: copy, from: /via, path: /serverName}", "server", "me"},
		{"networkFilter", "{op: add, path: /via, value: me}, {op: move, from: /via, path: /serverName}", "server", "me"},

		{"httpFilter", "{op: add, path: /suppressEnvoyHeaders, value: true}", "x-envoy-upstream-service-time", ""},
		{"httpFilter", "{op: add, path: /suppressEnvoyHeaders, value: false}, {op: replace, path: /suppressEnvoyHeaders, value: true}", "x-envoy-upstream-service-time", ""},
		{"httpFilter", "{op: add, path: /suppressEnvoyHeaders, value: true}, {op: remove, path: /suppressEnvoyHeaders}", "x-envoy-upstream-service-time", "some"},
		{"httpFilter", "{op: add, path: /respectExpectedRqTimeout, value: true}, {op: copy, from: /respectExpectedRqTimeout, path: /suppressEnvoyHeaders}", "x-envoy-upstream-service-time", ""},
		{"httpFilter", "{op: add, path: /respectExpectedRqTimeout, value: true}, {op: move, from: /respectExpectedRqTimeout, path: /suppressEnvoyHeaders}", "x-envoy-upstream-service-time", ""},

		{"virtualHost", "{op: add, path: /responseHeadersToAdd, value: [{header: {key: x-p, value: me}}]}", "x-p", "me"},
		{"virtualHost", "{op: add, path: /responseHeadersToAdd, value: [{header: {key: x-p, value: me}}]}, {op: replace, path: /responseHeadersToAdd/0/header/value, value: you}", "x-p", "you"},
		{"virtualHost", "{op: add, path: /responseHeadersToAdd, value: [{header: {key: x-p, value: me}}]}, {op: remove, path: /responseHeadersToAdd/0}", "x-p", ""},
		{"virtualHost", "{op: add, path: /responseHeadersToAdd, value: [{header: {key: x-p, value: me}}]}, {op: copy, from: /responseHeadersToAdd/0/header/key, path: /responseHeadersToAdd/0/header/value}", "x-p", "x-p"},
		{"virtualHost", "{op: add, path: /requestHeadersToAdd, value: [{header: {key: x-p, value: me}}]}, {op: move, from: /requestHeadersToAdd, path: /responseHeadersToAdd}", "x-p", "me"},
	} {
		with := "match: {name: " + p.name + "}"
		switch c.kind {
		case "networkFilter":
			with = "match: {name: envoy.filters.network.http_connection_manager, listenerName: " + p.name + "}"
		case "httpFilter":
			with = "match: {name: envoy.filters.http.router, listenerName: " + p.name + "}"
		}
		p.apply(t, "kind: Mesh", "{"+c.kind+": {operation: Patch, "+with+", jsonPatches: ["+c.ops+"]}}")
		p.want(t, c.kind+" "+c.ops, c.header, c.want)
	}
}

// matches: what a match asks for has to hold.
func (p *patches) matches(t *testing.T) {
	for _, c := range []struct {
		kind, change, header, want, without string
		base                                string
		matches                             []string
	}{
		{"cluster", "jsonPatches: [{op: add, path: /circuitBreakers/thresholds/0/maxRequests, value: 0}]", "", "503", "", "", []string{"origin: outbound", "name: NAME"}},
		{"listener", "jsonPatches: [{op: add, path: /filterChains/0/filterChainMatch, value: {destinationPort: 1}}]", "", "closed", "", "", []string{"origin: outbound", "name: NAME", "tags: {kuma.io/unified-name: NAME}", "tags: {kuma.io/unified-name: '*'}"}},
		{"networkFilter", "jsonPatches: [{op: add, path: /serverName, value: me}]", "server", "me", "envoy", "name: envoy.filters.network.http_connection_manager", []string{"origin: outbound", "listenerName: NAME", "listenerTags: {kuma.io/unified-name: NAME}"}},
		{"httpFilter", "jsonPatches: [{op: add, path: /suppressEnvoyHeaders, value: true}]", "x-envoy-upstream-service-time", "", "some", "name: envoy.filters.http.router", []string{"origin: outbound", "listenerName: NAME", "listenerTags: {kuma.io/unified-name: NAME}"}},
		{"virtualHost", "value: 'responseHeadersToAdd: [{header: {key: x-p, value: me}}]'", "x-p", "me", "", "", []string{"origin: outbound", "name: NAME", "routeConfigurationName: NAME"}},
	} {
		for _, match := range c.matches {
			for _, holds := range []bool{true, false} {
				with, want := strings.ReplaceAll(match, "NAME", p.name), c.want
				if !holds {
					want = c.without
					with = strings.NewReplacer("outbound", "inbound", "NAME", "other", "'*'", "other").Replace(match)
				}
				if c.base != "" {
					with = c.base + ", " + with
				}
				p.apply(t, "kind: Dataplane, labels: {app: client}", "{"+c.kind+": {operation: Patch, match: {"+with+"}, "+c.change+"}}")
				p.want(t, c.kind+" with "+with, c.header, want)
			}
		}
	}
}

const (
	// marker is an HTTP filter that marks responses.
	marker = `"{name: NAME, typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, defaultSourceCode: {inlineString: \"function envoy_on_response(h) h:headers():replace('x-p', 'NAME') end\"}}}"`
	// guard is a filter of connections that lets all or none pass.
	guard = `"{name: NAME, typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, statPrefix: x, rules: {action: ACTION, policies: {all: {permissions: [{any: true}], principals: [{any: true}]}}}}}"`
)

func (p *patches) filters(t *testing.T) {
	router, hcm := "match: {name: envoy.filters.http.router, origin: outbound}", "match: {name: envoy.filters.network.http_connection_manager, origin: outbound}"
	mark := func(name string) string { return "value: " + strings.ReplaceAll(marker, "NAME", name) }
	let := func(name, action string) string {
		return "value: " + strings.NewReplacer("NAME", name, "ACTION", action).Replace(guard)
	}
	one := "match: {origin: outbound}"
	for _, c := range []struct {
		what, header, want string
		list               []string
	}{
		// Responses pass filters from the last to the first.
		{"http AddBefore", "x-p", "one", []string{"{httpFilter: {operation: AddBefore, " + router + ", " + mark("one") + "}}"}},
		{"http AddLast", "x-p", "one", []string{"{httpFilter: {operation: AddFirst, " + one + ", " + mark("one") + "}}", "{httpFilter: {operation: AddLast, " + one + ", " + mark("two") + "}}"}},
		{"http AddFirst", "x-p", "two", []string{"{httpFilter: {operation: AddFirst, " + one + ", " + mark("one") + "}}", "{httpFilter: {operation: AddFirst, " + one + ", " + mark("two") + "}}"}},
		{"http AddAfter", "x-p", "one", []string{"{httpFilter: {operation: AddFirst, " + one + ", " + mark("one") + "}}", "{httpFilter: {operation: AddAfter, match: {name: one, origin: outbound}, " + mark("two") + "}}"}},
		{"http Remove", "x-p", "", []string{"{httpFilter: {operation: AddFirst, " + one + ", " + mark("one") + "}}", "{httpFilter: {operation: Remove, match: {name: one, origin: outbound}}}"}},
		{"http Patch", "x-envoy-upstream-service-time", "", []string{"{httpFilter: {operation: Patch, " + router + ", value: \"{name: x, typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppressEnvoyHeaders: true}}\"}}"}},

		{"network AddFirst", "", "closed", []string{"{networkFilter: {operation: AddFirst, " + one + ", " + let("one", "DENY") + "}}"}},
		{"network AddBefore", "", "closed", []string{"{networkFilter: {operation: AddBefore, " + hcm + ", " + let("one", "DENY") + "}}"}},
		{"network AddLast", "", "closed", []string{"{networkFilter: {operation: AddLast, match: {origin: outbound}, " + let("one", "DENY") + "}}"}},
		{"network AddAfter", "", "closed", []string{"{networkFilter: {operation: AddFirst, " + one + ", " + let("one", "ALLOW") + "}}", "{networkFilter: {operation: AddAfter, match: {name: one, origin: outbound}, " + let("two", "DENY") + "}}"}},
		{"network Remove", "", "", []string{"{networkFilter: {operation: AddFirst, " + one + ", " + let("one", "DENY") + "}}", "{networkFilter: {operation: Remove, match: {name: one, origin: outbound}}}"}},
		{"network Patch", "server", "me", []string{"{networkFilter: {operation: Patch, " + hcm + ", value: \"{name: x, typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, serverName: me}}\"}}"}},
	} {
		p.apply(t, "kind: Dataplane", c.list...)
		p.want(t, c.what, c.header, c.want)
	}
}

func (p *patches) addAndRemove(t *testing.T) {
	own := traffic.Dead(t)
	cluster := fmt.Sprintf(`{cluster: {operation: Add, value: "{name: mine, type: STATIC, connectTimeout: 1s, loadAssignment: {clusterName: mine, endpoints: [{lbEndpoints: [{endpoint: {address: {socketAddress: {address: 127.0.0.1, portValue: %d}}}}]}]}}"}}`, p.app)
	listener := fmt.Sprintf(`{listener: {operation: Add, value: "{name: mine, address: {socketAddress: {address: 127.0.0.1, portValue: %d}}, filterChains: [{filters: [{name: envoy.filters.network.tcp_proxy, typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, statPrefix: mine, cluster: mine}}]}]}"}}`, own)
	p.apply(t, "kind: Mesh", cluster, listener)
	p.Listening(t, own)
	if got := traffic.Get(t, fmt.Sprintf("http://127.0.0.1:%d/", own)); got.Status != 200 {
		t.Errorf("an added listener: %d", got.Status)
	}
	p.apply(t, "kind: Mesh", `{virtualHost: {operation: Add, match: {routeConfigurationName: `+p.name+`}, value: "{name: mine, domains: [x], routes: [{match: {prefix: /}, directResponse: {status: 418}}]}"}}`)
	p.want(t, "an added virtual host", "", "418")
	p.apply(t, "kind: Mesh", "{virtualHost: {operation: Remove, match: {name: "+p.name+"}}}")
	p.want(t, "a removed virtual host", "", "404")
	p.apply(t, "kind: Mesh", "{cluster: {operation: Remove, match: {name: "+p.name+"}}}")
	p.want(t, "a removed cluster", "", "503")
	p.apply(t, "kind: Mesh", "{listener: {operation: Remove, match: {name: "+p.name+"}}}")
	p.want(t, "a removed listener", "", "refused")
	p.apply(t, "kind: Mesh", "{listener: {operation: Patch, match: {name: "+p.name+"}, value: 'perConnectionBufferLimitBytes: 65536'}}")
	p.Listening(t, atoi(p.port))
	p.want(t, "a listener that is back", "server", "envoy")
}

func atoi(s string) (n int) {
	_, _ = fmt.Sscan(s, &n)
	return n
}
