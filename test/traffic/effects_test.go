package traffic_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// effect is a policy and what of it shows in traffic. gone is what shows when it
// has been removed; nil: not seen.
type effect struct {
	name, docs string
	seen, gone func() bool
}

// TestEffects writes policies by the API of a real control plane, one after the
// other, and waits until traffic through real Envoys shows each, and its removal.
// Clients keep their connections.
func TestEffects(t *testing.T) {
	t.Parallel()
	l := startLive(t, "effects")
	l.effect(t, "traffic", time.Now(), func() bool {
		return l.get(toWeb, "/").Status == 200 && l.get(toPool, "/").Status == 200 && l.greeting(toDB) == "db"
	})
	l.took = nil
	l.each(t, effects(t, l))
	l.again(t)
	l.secure(t)
	if median, _ := l.summary(t); median > 300*time.Millisecond {
		t.Errorf("half of the changes took longer than %s", median)
	}
}

func (l *live) each(t *testing.T, list []effect) {
	for _, e := range list {
		t.Run(e.name, func(t *testing.T) {
			if e.gone == nil {
				e.gone = func() bool { return !e.seen() }
			}
			begun := time.Now()
			l.put(t, e.docs)
			l.effect(t, e.name, begun, e.seen)
			begun = time.Now()
			l.remove(t, e.docs)
			l.effect(t, e.name+", removed", begun, e.gone)
		})
	}
}

// secure gives both proxies identities, and shows what policies do with those.
func (l *live) secure(t *testing.T) {
	const permission = `
type: MeshTrafficPermission
name: all
spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: "spiffe://effects.east.mesh.local"}}]}}]}`
	begun := time.Now()
	l.put(t, `
type: MeshIdentity
name: identity
spec:
  selector: {dataplane: {matchLabels: {}}}
  provider: {type: Bundled, bundled: {meshTrustCreation: Enabled, insecureAllowSelfSigned: true, autogenerate: {enabled: true}}}
---`+permission)
	took := l.took
	l.effect(t, "identities", begun, func() bool { return strings.Contains(l.get(toWeb, "/").Body, "/workload/client") })
	l.took = took // it waits for keys to be made
	const me = `"spiffe://effects.east.mesh.local/workload/client"`
	forMe := func(kind, section, conf string) string {
		return fmt.Sprintf("type: %s\nname: me\nspec: {targetRef: {kind: Dataplane, labels: {app: server}, sectionName: %s}, rules: [{matches: [{spiffeID: {type: Exact, value: %s}}], default: %s}]}", kind, section, me, conf)
	}
	direct := func() bool {
		resp, err := http.Get(l.server.URL(inWeb))
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 200
	}
	l.each(t, []effect{
		{name: "MeshTrafficPermission/deny", docs: inbound("MeshTrafficPermission", "deny", "web", "{deny: [{spiffeID: {type: Exact, value: "+me+"}}]}"),
			seen: func() bool { return l.get(toWeb, "/").Status == 403 && l.get(toNext, "/").Status == 200 }},
		{name: "MeshTrafficPermission/deny tcp", docs: inbound("MeshTrafficPermission", "deny", "db", "{deny: [{spiffeID: {type: Exact, value: "+me+"}}]}"),
			seen: func() bool { return !l.talks(toDB) }},
		{name: "MeshTLS/permissive", docs: inbound("MeshTLS", "tls", "web", "{mode: Permissive}"), seen: direct},
		{name: "MeshRateLimit/client", docs: forMe("MeshRateLimit", "web", "{local: {http: {requestRate: {num: 1, interval: 1h}}}}"),
			seen: func() bool { return l.get(toWeb, "/").Status == 429 }},
		{name: "MeshFaultInjection/client", docs: forMe("MeshFaultInjection", "web", "{http: [{abort: {httpStatus: 418, percentage: 100}}]}"),
			seen: func() bool { return l.get(toWeb, "/").Status == 418 }},
		{name: "MeshTimeout/client", docs: forMe("MeshTimeout", "web", "{http: {requestTimeout: 50ms}}"),
			seen: func() bool { return l.get(toWeb, "/slow").Status == 504 }},
	})
	begun = time.Now()
	l.remove(t, permission)
	l.effect(t, "MeshTrafficPermission/none", begun, func() bool { return l.get(toWeb, "/").Status == 403 })
	begun = time.Now()
	l.put(t, permission)
	l.effect(t, "MeshTrafficPermission/allow", begun, func() bool { return l.get(toWeb, "/").Status == 200 })
}

// again deletes a policy and creates it with other content under the same name.
func (l *live) again(t *testing.T) {
	for i := range 10 {
		doc := toService("MeshHTTPRoute", "again", "web", fmt.Sprintf("rules: [{matches: [{path: {type: PathPrefix, value: /}}], default: {filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-again, value: %q}]}}]}}]", fmt.Sprint(i)))
		begun := time.Now()
		if i > 0 {
			l.remove(t, doc)
		}
		l.put(t, doc)
		l.effect(t, "created again", begun, func() bool { return l.get(toWeb, "/").Header.Get("x-again") == fmt.Sprint(i) })
	}
}

// toService is a policy for one service.
func toService(kind, name, service, body string) string {
	return fmt.Sprintf("type: %s\nname: %s\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: %s}}, %s}]}", kind, name, service, body)
}

func inbound(kind, name, section, conf string) string {
	return fmt.Sprintf("type: %s\nname: %s\nspec: {targetRef: {kind: Dataplane, labels: {app: server}, sectionName: %s}, rules: [{default: %s}]}", kind, name, section, conf)
}

func effects(t *testing.T, l *live) []effect {
	route := func(name, match, conf string, seen func() bool) effect {
		return effect{name: "MeshHTTPRoute/" + name, seen: seen,
			docs: toService("MeshHTTPRoute", "route", "web", fmt.Sprintf("rules: [{matches: [%s], default: %s}]", match, conf))}
	}
	const all = "{path: {type: PathPrefix, value: /}}"
	next := "{backendRefs: [{kind: MeshService, labels: {app: next}, port: 80}]}"
	from := func(app, path string, headers ...string) bool {
		return strings.HasPrefix(l.get(toWeb, path, headers...).Body, app+" ")
	}
	filter := func(f string) string { return "{filters: [" + f + "]}" }
	logFile := filepath.Join(t.TempDir(), "access.log")
	pool := func(n int, path string, headers ...string) map[string]int {
		out := map[string]int{}
		for range n {
			out[strings.SplitN(l.get(toPool, path, headers...).Body, " ", 2)[0]]++
		}
		return out
	}
	bad := func(name string, status int) {
		h := traffic.Status(status)
		l.apps[name].Answer.Store(&h)
	}
	good := func(name string) {
		h := echo(name)
		l.apps[name].Answer.Store(&h)
	}
	// quiet: a line of what was logged before may be under way.
	quiet := func() bool {
		_ = os.Truncate(logFile, 0)
		l.get(toWeb, "/")
		<-time.After(glance)
		b, _ := os.ReadFile(logFile)
		return len(b) == 0
	}
	// still: what was sent before may be under way.
	still := func(sent *atomic.Int64) bool {
		before := sent.Load()
		l.get(toWeb, "/")
		<-time.After(glance)
		return sent.Load() == before
	}
	var spans, logged atomic.Int64
	lines, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lines.Close() })
	go func() {
		for {
			c, err := lines.Accept()
			if err != nil {
				return
			}
			go func() {
				for s := bufio.NewScanner(c); s.Scan(); {
					logged.Add(1)
				}
			}()
		}
	}()
	collector := traffic.Serve(t, func(http.ResponseWriter, *http.Request) { spans.Add(1) })
	out := []effect{
		route("backend", all, next, func() bool { return from("next", "/") }),
		route("exact", "{path: {type: Exact, value: /x}}", next, func() bool { return from("next", "/x") && from("web", "/x/y") }),
		route("prefix", "{path: {type: PathPrefix, value: /x}}", next, func() bool { return from("next", "/x/y") && from("web", "/xy") }),
		route("regex", "{path: {type: RegularExpression, value: '/[0-9]+'}}", next, func() bool { return from("next", "/12") && from("web", "/x") }),
		route("method", "{method: POST}", next, func() bool {
			return strings.HasPrefix(l.ask("POST", toWeb, "/").Body, "next ") && from("web", "/")
		}),
		route("header", "{headers: [{name: x-canary, value: 'yes'}]}", next, func() bool { return from("next", "/", "x-canary", "yes") && from("web", "/") }),
		route("query", "{queryParams: [{type: Exact, name: v, value: '2'}]}", next, func() bool { return from("next", "/?v=2") && from("web", "/?v=1") }),
		route("split", all, "{backendRefs: [{kind: MeshService, labels: {app: web}, port: 80, weight: 50}, {kind: MeshService, labels: {app: next}, port: 80, weight: 50}]}", func() bool {
			seen := map[bool]bool{}
			for range 20 {
				seen[from("next", "/")] = true
			}
			return len(seen) == 2
		}),
		route("request header", all, filter("{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-in, value: changed}]}}"), func() bool {
			return strings.HasSuffix(l.get(toWeb, "/", "x-in", "sent").Body, "in=changed")
		}),
		route("response header", all, filter("{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-from], add: [{name: x-out, value: '1'}]}}"), func() bool {
			got := l.get(toWeb, "/")
			return got.Header.Get("x-out") == "1" && got.Header.Get("x-from") == ""
		}),
		route("redirect", "{path: {type: PathPrefix, value: /old}}", filter("{type: RequestRedirect, requestRedirect: {scheme: https, hostname: new.test, port: 8443, statusCode: 307, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}"), func() bool {
			got := l.get(toWeb, "/old/x?q=1")
			return got.Status == 307 && got.Header.Get("location") == "https://new.test:8443/new/x?q=1"
		}),
		route("prefix rewrite", "{path: {type: PathPrefix, value: /v1}}", filter("{type: URLRewrite, urlRewrite: {hostname: other.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}}"), func() bool {
			return strings.Contains(l.get(toWeb, "/v1/x?q=1").Body, " /v2/x?q=1 host=other.test ") && strings.Contains(l.get(toWeb, "/v1").Body, " /v2 host=other.test")
		}),
		route("mirror", all, filter("{type: RequestMirror, requestMirror: {percentage: 100, backendRef: {kind: MeshService, labels: {app: next}, port: 80}}}"), func() bool {
			before := l.apps["next"].Count.Load()
			if l.get(toWeb, "/").Status != 200 {
				return false
			}
			for range 20 { // a copy may arrive a moment later
				if l.apps["next"].Count.Load() > before {
					return true
				}
				time.Sleep(time.Millisecond)
			}
			return false
		}),
		route("nowhere", all, "{backendRefs: [{kind: MeshService, labels: {app: nowhere}, port: 80}]}", func() bool { return l.get(toWeb, "/").Status == 500 }),
		{name: "MeshTCPRoute", docs: toService("MeshTCPRoute", "move", "db", "rules: [{default: {backendRefs: [{kind: MeshService, labels: {app: db-next}, port: 80}]}}]"),
			seen: func() bool { return l.greeting(toDB) == "db-next" }},

		{name: "MeshTimeout/request", docs: toService("MeshTimeout", "timeout", "web", "default: {http: {requestTimeout: 50ms}}"),
			seen: func() bool { return l.get(toWeb, "/slow").Status == 504 }},
		{name: "MeshTimeout/stream idle", docs: toService("MeshTimeout", "timeout", "web", "default: {http: {requestTimeout: 0s, streamIdleTimeout: 60ms}}"),
			seen: func() bool { return l.get(toWeb, "/slow").Status == 504 }},
		{name: "MeshTimeout/stream duration", docs: toService("MeshTimeout", "timeout", "web", "default: {http: {maxStreamDuration: 80ms}}"),
			seen: func() bool { got := l.get(toWeb, "/slow"); return got.Status != 0 && got.Status != 200 }},
		{name: "MeshTimeout/idle", docs: toService("MeshTimeout", "timeout", "db", "default: {idleTimeout: 50ms}"), seen: func() bool {
			return l.closed(toDB, 200*time.Millisecond)
		}},
		{name: "MeshTimeout/connection", docs: toService("MeshTimeout", "timeout", "black-hole", "default: {connectionTimeout: 20ms}"),
			seen: func() bool { return l.get(toBlackHole, "/slow").Status == 503 }},
		{name: "MeshTimeout/rules", docs: inbound("MeshTimeout", "timeout", "web", "{http: {requestTimeout: 50ms}}"),
			seen: func() bool { return l.get(toWeb, "/slow").Status == 504 }},

		{name: "MeshCircuitBreaker/requests", docs: toService("MeshCircuitBreaker", "limits", "web", "default: {connectionLimits: {maxRequests: 1}}"), seen: func() bool { return l.overloaded(toWeb) }},
		{name: "MeshCircuitBreaker/rules", docs: inbound("MeshCircuitBreaker", "limits", "web", "{connectionLimits: {maxRequests: 1}}"), seen: func() bool { return l.overloaded(toWeb) }},
		{name: "MeshRateLimit", docs: inbound("MeshRateLimit", "limit", "web", "{local: {http: {requestRate: {num: 1, interval: 1h}, onRateLimit: {status: 429, headers: {set: [{name: x-limited, value: 'yes'}]}}}}}"),
			seen: func() bool {
				got := l.get(toWeb, "/")
				return got.Status == 429 && got.Header.Get("x-limited") == "yes"
			}},
		{name: "MeshRateLimit/tcp", docs: inbound("MeshRateLimit", "limit", "db", "{local: {tcp: {connectionRate: {num: 1, interval: 1h}}}}"),
			seen: func() bool { return l.greeting(toDB) == "" }},
		{name: "MeshFaultInjection/abort", docs: inbound("MeshFaultInjection", "fault", "web", "{http: [{abort: {httpStatus: 418, percentage: 100}}]}"),
			seen: func() bool { return l.get(toWeb, "/").Status == 418 }},
		{name: "MeshFaultInjection/delay", docs: inbound("MeshFaultInjection", "fault", "web", "{http: [{delay: {value: 200ms, percentage: 100}}]}"),
			seen: func() bool { return l.lasts(200*time.Millisecond, "/") }},
		{name: "MeshFaultInjection/bandwidth", docs: inbound("MeshFaultInjection", "fault", "web", "{http: [{responseBandwidth: {limit: 256kbps, percentage: 100}}]}"),
			seen: func() bool { return l.lasts(150*time.Millisecond, "/big") }},
		{name: "MeshProxyPatch", docs: `
type: MeshProxyPatch
name: patch
spec:
  targetRef: {kind: Dataplane, labels: {app: client}}
  default:
    appendModifications:
    - httpFilter:
        operation: AddBefore
        match: {origin: outbound, name: envoy.filters.http.router}
        value: |
          name: envoy.filters.http.lua
          typedConfig:
            '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            defaultSourceCode: {inlineString: "function envoy_on_response(h) h:headers():add('x-lua', 'yes') end"}`,
			seen: func() bool { return l.get(toWeb, "/").Header.Get("x-lua") == "yes" }},
		{name: "MeshAccessLog", docs: toService("MeshAccessLog", "log", "web", "default: {backends: [{type: File, file: {path: "+logFile+", format: {type: Plain, plain: '%RESPONSE_CODE%'}}}]}"),
			seen: func() bool { l.get(toWeb, "/"); b, _ := os.ReadFile(logFile); return len(b) > 0 },
			gone: quiet},
		// Once more, as the file is open now, and lines wait for others.
		{name: "MeshAccessLog/again", docs: toService("MeshAccessLog", "log", "web", "default: {backends: [{type: File, file: {path: "+logFile+", format: {type: Plain, plain: '%PROTOCOL%'}}}]}"),
			seen: func() bool { l.get(toWeb, "/"); b, _ := os.ReadFile(logFile); return bytes.Contains(b, []byte("HTTP")) },
			gone: quiet},
		{name: "MeshAccessLog/tcp", docs: toService("MeshAccessLog", "log", "web", "default: {backends: [{type: Tcp, tcp: {address: '"+lines.Addr().String()+"', format: {type: Plain, plain: '%PROTOCOL%'}}}]}"),
			seen: func() bool { l.get(toWeb, "/"); return logged.Load() > 0 }, gone: func() bool { return still(&logged) }},
		{name: "MeshMetric", docs: "type: MeshMetric\nname: metric\nspec: {default: {backends: [{type: Prometheus, prometheus: {port: 5670, path: /metrics}}]}}",
			seen: func() bool {
				got, err := traffic.Try(l.client.URL(5670) + "metrics")
				return err == nil && got.Status == 200 && strings.Contains(got.Body, "envoy_cluster_upstream_rq")
			}},
		{name: "MeshTrace", docs: fmt.Sprintf("type: MeshTrace\nname: trace\nspec: {default: {backends: [{type: Zipkin, zipkin: {url: 'http://127.0.0.1:%d/api/v2/spans'}}]}}", collector.Port),
			seen: func() bool { l.get(toWeb, "/"); return spans.Load() > 0 },
			gone: func() bool { return still(&spans) }},
		{name: "MeshLoadBalancingStrategy/hash", docs: toService("MeshLoadBalancingStrategy", "lb", "pool", "default: {loadBalancer: {type: RingHash}, hashPolicies: [{type: Header, header: {name: x-user}}]}"),
			seen: func() bool { return len(pool(10, "/", "x-user", "me")) == 1 }},
		{name: "MeshLoadBalancingStrategy/affinity", docs: toService("MeshLoadBalancingStrategy", "lb", "pool", "default: {localityAwareness: {localZone: {affinityTags: [{key: rack, weight: 1000000}]}}}"),
			seen: func() bool { return pool(10, "/")["a"] == 10 }},
	}

	// What needs endpoints that fail.
	failing := func(e effect, before, after func()) effect {
		seen, gone := e.seen, e.gone
		if gone == nil {
			gone = func() bool { return !seen() }
		}
		return effect{name: e.name, docs: e.docs, seen: func() bool { before(); return seen() },
			gone: func() bool {
				if !gone() {
					return false
				}
				after()
				return true
			}}
	}
	aFails := func() { bad("a", 503) }
	aServes := func() { good("a") }
	out = append(out,
		failing(effect{name: "MeshRetry/http", docs: toService("MeshRetry", "retry", "pool", "default: {http: {numRetries: 2, backOff: {baseInterval: 1ms}, hostSelection: [{predicate: OmitPreviousHosts}]}}"),
			seen: func() bool { return l.fails(20, toPool) == 0 }}, aFails, aServes),
		failing(effect{name: "MeshCircuitBreaker/outlier", docs: toService("MeshCircuitBreaker", "outlier", "pool",
			"default: {outlierDetection: {interval: 50ms, baseEjectionTime: 60s, maxEjectionPercent: 50, detectors: {totalFailures: {consecutive: 1}}}}"),
			seen: func() bool { return l.fails(20, toPool) == 0 }}, aFails, aServes),
		failing(effect{name: "MeshHealthCheck/http", docs: toService("MeshHealthCheck", "health", "pool",
			"default: {interval: 50ms, noTrafficInterval: 50ms, timeout: 1s, unhealthyThreshold: 1, healthyThreshold: 1, http: {path: /healthy}}"),
			seen: func() bool { return l.fails(20, toPool) == 0 }}, aFails, aServes),
	)
	return append(out, grpcEffects(t, l)...)
}

// grpcEffects: a call that fails first and then does not.
func grpcEffects(t *testing.T, l *live) []effect {
	conn, err := grpc.NewClient(fmt.Sprintf("%s:%d", l.client.Spec.Address, toGRPC), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	call := func() error {
		_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "flaky"})
		return err
	}
	return []effect{
		{name: "MeshRetry/grpc", docs: toService("MeshRetry", "grpc", "grpc", "default: {grpc: {numRetries: 1, retryOn: [Internal], backOff: {baseInterval: 1ms}}}"),
			seen: func() bool { return errors.Join(call(), call(), call()) == nil }},
		{name: "MeshFaultInjection/grpc", docs: inbound("MeshFaultInjection", "fault", "grpc", "{http: [{abort: {httpStatus: 503, percentage: 100}}]}"),
			seen: func() bool { return status.Code(call()) == codes.Unavailable }},
	}
}

// flaky serves gRPC whose every second call of the service "flaky" fails.
func flaky(t *testing.T) int {
	var n atomic.Int64
	return serveGRPC(t, func(service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
		if service == "flaky" && n.Add(1)%2 == 1 {
			return 0, status.Error(codes.Internal, "again")
		}
		return healthpb.HealthCheckResponse_SERVING, nil
	})
}

// fails counts requests that fail.
func (l *live) fails(n, port int) (failed int) {
	for range n {
		if l.get(port, "/").Status != 200 {
			failed++
		}
	}
	return failed
}

// lasts tells whether a request takes at least so long.
func (l *live) lasts(d time.Duration, path string) bool {
	begun := time.Now()
	l.get(toWeb, path)
	return time.Since(begun) >= d
}

// overloaded tells whether a second request at the same time is refused.
func (l *live) overloaded(port int) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/drip", l.client.Spec.Address, port), nil)
	if err != nil {
		return false
	}
	resp, err := l.http.Do(req) // returns with the first bytes of a response that goes on
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	return l.get(port, "/").Header.Get("x-envoy-overloaded") == "true"
}

// talks tells whether a server that speaks first goes on after the client has
// spoken.
func (l *live) talks(port int) bool {
	c, err := net.Dial("tcp", net.JoinHostPort(l.client.Spec.Address, fmt.Sprint(port)))
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte("hello"))
	_ = c.SetDeadline(time.Now().Add(glance))
	b := make([]byte, 64)
	for {
		if _, err := c.Read(b); err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// closed tells whether an idle connection is closed within a time.
func (l *live) closed(port int, within time.Duration) bool {
	c, err := net.Dial("tcp", net.JoinHostPort(l.client.Spec.Address, fmt.Sprint(port)))
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(within))
	b := make([]byte, 64)
	for {
		if _, err := c.Read(b); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}
