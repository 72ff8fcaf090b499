package traffic_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestRetries goes through what MeshRetry calls a failure, who may try again,
// when, and where.
func TestRetries(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	r := &retries{Mesh: m, app: traffic.Serve(t, traffic.Status(200))}
	r.url = "http://" + m.Service(t, "retried", "http", nil, r.app.Port) + "/"
	t.Run("conditions", r.conditions)
	t.Run("methods", r.methods)
	t.Run("headers", r.headers)
	t.Run("broken connections", r.broken)
	t.Run("back off", r.backOff)
	t.Run("reset headers", r.resets)
	t.Run("grpc", func(t *testing.T) { retriesOfGRPC(t, m) })
}

type retries struct {
	*traffic.Mesh
	app *traffic.Server
	url string
}

func (r *retries) apply(t *testing.T, conf string) {
	t.Helper()
	r.Apply(t, "type: MeshRetry\nname: retries\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: retried}}, default: {http: {"+conf+"}}}]}")
}

// tries counts how often a request arrives that is always answered so.
func (r *retries) tries(t *testing.T, method string, answer http.HandlerFunc, headers ...string) int64 {
	t.Helper()
	r.app.Answer.Store(&answer)
	before := r.app.Count.Load()
	traffic.Do(t, method, r.url, headers...)
	return r.app.Count.Load() - before
}

func (r *retries) conditions(t *testing.T) {
	statuses := []int{200, 409, 429, 500, 502, 503, 504}
	limited := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-envoy-ratelimited", "true")
		w.WriteHeader(429)
	})
	for _, c := range []struct {
		on    string
		again map[int]bool
	}{
		{"5xx", map[int]bool{500: true, 502: true, 503: true, 504: true}},
		{"GatewayError", map[int]bool{502: true, 503: true, 504: true}},
		{"Retriable4xx", map[int]bool{409: true}},
		{`"429"`, map[int]bool{429: true, 502: true, 503: true, 504: true}}, // with what is retried anyway
		{`"429", Retriable4xx`, map[int]bool{429: true, 409: true}},
		{"RefusedStream", nil},
		{"Http3PostConnectFailure", nil},
		{"EnvoyRatelimited", nil},
	} {
		r.apply(t, "numRetries: 1, retryOn: ["+c.on+"], backOff: {baseInterval: 1ms}")
		for _, s := range statuses {
			want := int64(1)
			if c.again[s] {
				want = 2
			}
			if got := r.tries(t, "GET", traffic.Status(s)); got != want {
				t.Errorf("retryOn %s: %d is tried %d times, want %d", c.on, s, got, want)
			}
		}
		if got := r.tries(t, "GET", limited); (got == 2) != (c.on == "EnvoyRatelimited") {
			t.Errorf("retryOn %s: a response that says it was limited is tried %d times", c.on, got)
		}
	}
}

func (r *retries) methods(t *testing.T) {
	all := map[string]string{"Delete": "DELETE", "Get": "GET", "Head": "HEAD", "Options": "OPTIONS", "Patch": "PATCH", "Post": "POST", "Put": "PUT", "Trace": "TRACE", "Connect": "CONNECT"}
	for word, method := range all {
		r.apply(t, "numRetries: 1, retryOn: [5xx, HttpMethod"+word+"], backOff: {baseInterval: 1ms}")
		for _, other := range all {
			if other == "CONNECT" {
				continue // asks for a tunnel
			}
			want := int64(1)
			if other == method {
				want = 2
			}
			if got := r.tries(t, other, traffic.Status(500)); got != want {
				t.Errorf("HttpMethod%s: %s is tried %d times, want %d", word, other, got, want)
			}
		}
	}
}

func (r *retries) headers(t *testing.T) {
	with := func(value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("x-h", value) }
	}
	for _, c := range []struct {
		match   string
		yes, no string // values; - is no header
	}{
		{"{name: x-h, type: Exact, value: v}", "v", "vv"},
		{"{name: x-h, type: Prefix, value: v}", "vv", "wv"},
		{"{name: x-h, type: RegularExpression, value: 'v\\d+'}", "v1", "v"},
		{"{name: x-h, type: Present}", "v", "-"},
		{"{name: x-h, type: Absent}", "-", "v"},
	} {
		r.apply(t, "numRetries: 1, retryOn: [5xx], backOff: {baseInterval: 1ms}, retriableRequestHeaders: ["+c.match+"]")
		for value, want := range map[string]int64{c.yes: 2, c.no: 1} {
			headers := []string{"x-h", value}
			if value == "-" {
				headers = nil
			}
			if got := r.tries(t, "GET", traffic.Status(500), headers...); got != want {
				t.Errorf("%s: a request with %q is tried %d times, want %d", c.match, value, got, want)
			}
		}
		r.apply(t, "numRetries: 1, retryOn: [Reset], backOff: {baseInterval: 1ms}, retriableResponseHeaders: ["+c.match+"]")
		for value, want := range map[string]int64{c.yes: 2, c.no: 1} {
			answer := with(value)
			if value == "-" {
				answer = traffic.Status(200)
			}
			if got := r.tries(t, "GET", answer); got != want {
				t.Errorf("%s: a response with %q is tried %d times, want %d", c.match, value, got, want)
			}
		}
	}
}

// broken: a connection that ends before the response is a reset, one that cannot
// be made is none.
func (r *retries) broken(t *testing.T) {
	hangUp := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
	for _, c := range []struct {
		on   string
		want int64
	}{{"Reset", 2}, {"ConnectFailure", 1}} {
		r.apply(t, "numRetries: 1, retryOn: ["+c.on+"], backOff: {baseInterval: 1ms}")
		if got := r.tries(t, "GET", hangUp); got != c.want {
			t.Errorf("retryOn %s: a connection that breaks is tried %d times, want %d", c.on, got, c.want)
		}
	}
}

// backOff: the time between tries is random between nothing and an interval that
// doubles up to a limit.
func (r *retries) backOff(t *testing.T) {
	took := func(backOff string) time.Duration {
		r.apply(t, "numRetries: 6, retryOn: [5xx], backOff: "+backOff)
		begun := time.Now()
		for range 2 {
			if got := r.tries(t, "GET", traffic.Status(500)); got != 7 {
				t.Fatalf("tried %d times, want 7", got)
			}
		}
		return time.Since(begun)
	}
	short, long, capped := took("{baseInterval: 1ms, maxInterval: 2ms}"), took("{baseInterval: 50ms, maxInterval: 1s}"), took("{baseInterval: 50ms, maxInterval: 60ms}")
	// The means are 12 ms, 1.6 s and 0.35 s.
	if short > long/4 || capped > long*3/4 {
		t.Errorf("1 to 2 ms took %v, 50 ms to 1 s %v, 50 to 60 ms %v", short, long, capped)
	}
}

// resets: the response says when to try again, in seconds or as a time, and no
// more than a limit is waited.
func (r *retries) resets(t *testing.T) {
	for _, c := range []struct {
		conf, value string
		low, high   time.Duration
	}{
		{"resetHeaders: [{name: x-other, format: Seconds}, {name: x-reset, format: Seconds}]", "1", time.Second, 5 * time.Second},
		{"resetHeaders: [{name: x-reset, format: UnixTimestamp}]", "unix", 500 * time.Millisecond, 5 * time.Second},
		// What asks for more than the limit is not waited for.
		{"maxInterval: 1s, resetHeaders: [{name: x-reset, format: Seconds}]", "3600", 0, 900 * time.Millisecond},
	} {
		r.apply(t, `numRetries: 1, retryOn: ["429"], backOff: {baseInterval: 1ms}, rateLimitedBackOff: {`+c.conf+"}")
		var n atomic.Int64
		begun := time.Now()
		got := r.tries(t, "GET", func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1) > 1 {
				return
			}
			value := c.value
			if value == "unix" {
				value = fmt.Sprint(time.Now().Unix() + 2) // between one and two seconds away
			}
			w.Header().Set("x-reset", value)
			w.WriteHeader(429)
		})
		if took := time.Since(begun); got != 2 || took < c.low || took > c.high {
			t.Errorf("%s, %s: %d tries in %v, want 2 in %v to %v", c.conf, c.value, got, took, c.low, c.high)
		}
	}
}

func retriesOfGRPC(t *testing.T, m *traffic.Mesh) {
	var answer atomic.Pointer[func(try int64) error]
	var tries atomic.Int64
	port := serveGRPC(t, func(string) (healthpb.HealthCheckResponse_ServingStatus, error) {
		return healthpb.HealthCheckResponse_SERVING, (*answer.Load())(tries.Add(1))
	})
	c := dialGRPC(t, m.Service(t, "calls", "grpc", nil, port))
	apply := func(conf string) {
		m.Apply(t, "type: MeshRetry\nname: calls\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: calls}}, default: {grpc: {"+conf+"}}}]}")
	}
	call := func(f func(try int64) error) (n int64, took time.Duration, err error) {
		answer.Store(&f)
		tries.Store(0)
		begun := time.Now()
		_, err = c.Check(t.Context(), &healthpb.HealthCheckRequest{})
		return tries.Load(), time.Since(begun), err
	}
	words := map[string]codes.Code{
		"Canceled": codes.Canceled, "DeadlineExceeded": codes.DeadlineExceeded, "Internal": codes.Internal,
		"ResourceExhausted": codes.ResourceExhausted, "Unavailable": codes.Unavailable,
	}
	for word := range words {
		apply("numRetries: 2, retryOn: [" + word + "], backOff: {baseInterval: 1ms, maxInterval: 2ms}")
		for other, code := range words {
			want := int64(1)
			if other == word {
				want = 3
			}
			if n, _, _ := call(func(int64) error { return status.Error(code, "no") }); n != want {
				t.Errorf("retryOn %s: %s is tried %d times, want %d", word, other, n, want)
			}
		}
	}
	// Without a list: what the server says it has not done.
	apply("numRetries: 1, backOff: {baseInterval: 1ms}")
	for word, want := range map[string]int64{"Unavailable": 2, "ResourceExhausted": 2, "Canceled": 2, "Internal": 1, "DeadlineExceeded": 1} {
		if n, _, _ := call(func(int64) error { return status.Error(words[word], "no") }); n != want {
			t.Errorf("without retryOn %s is tried %d times, want %d", word, n, want)
		}
	}
	apply("numRetries: 1, perTryTimeout: 100ms")
	hang := func(int64) error { time.Sleep(time.Second); return nil }
	if n, took, err := call(hang); err == nil || took > 900*time.Millisecond {
		t.Errorf("a try that hangs: %d tries in %v, %v", n, took, err)
	}
	resetsOfGRPC(t, m)
}

// resetsOfGRPC: a call that was refused says when to try again. The server is one
// of HTTP, which may answer with headers only, as gRPC does when it refuses.
func resetsOfGRPC(t *testing.T, m *traffic.Mesh) {
	var value atomic.Pointer[string]
	var tries atomic.Int64
	app := traffic.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "application/grpc")
		w.Header().Set("grpc-status", fmt.Sprint(int(codes.ResourceExhausted)))
		if tries.Add(1) > 1 {
			w.Header().Set("grpc-status", fmt.Sprint(int(codes.NotFound)))
		}
		w.Header().Set("x-reset", *value.Load())
	})
	c := dialGRPC(t, m.Service(t, "refused", "grpc", nil, app.Port))
	for _, x := range []struct {
		format string
		in     int64
		low    time.Duration
	}{{"Seconds", 1, time.Second}, {"UnixTimestamp", time.Now().Unix() + 3, 500 * time.Millisecond}} {
		m.Apply(t, "type: MeshRetry\nname: refused\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: refused}}, default: {grpc: {numRetries: 1, retryOn: [ResourceExhausted], rateLimitedBackOff: {maxInterval: 10s, resetHeaders: [{name: x-reset, format: "+x.format+"}]}}}}]}")
		text := fmt.Sprint(x.in)
		value.Store(&text)
		tries.Store(0)
		begun := time.Now()
		_, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{})
		if took := time.Since(begun); status.Code(err) != codes.NotFound || tries.Load() != 2 || took < x.low {
			t.Errorf("%s: %d tries in %v, %v", x.format, tries.Load(), took, err)
		}
	}
}
