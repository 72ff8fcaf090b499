package rest

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// isIndex tells whether a request is for the entry page, which everybody may see.
func (a *API) isIndex(r *http.Request) bool {
	return strings.Trim(strings.TrimPrefix(r.URL.Path, a.BasePath), "/") == ""
}

// strip removes the base path.
func (a *API) strip(h http.Handler) http.Handler {
	stripped := http.StripPrefix(a.BasePath, h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, ok := strings.CutPrefix(r.URL.Path, a.BasePath)
		if !ok || rest != "" && rest[0] != '/' {
			a.fail(w, r, &problem{http.StatusNotFound, "Not Found", "the API is below " + a.BasePath, nil})
			return
		}
		if rest == "" {
			r = r.Clone(r.Context())
			r.URL.Path += "/"
			r.URL.RawPath = ""
		}
		stripped.ServeHTTP(w, r)
	})
}

// guard keeps callers without authentication away from everything but the entry
// page, before anything else could tell them what exists.
func (a *API) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.refusesAnonymous(w, r) {
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (a *API) refusesAnonymous(w http.ResponseWriter, r *http.Request) bool {
	u := auth.UserFrom(r.Context())
	if !u.IsAnonymous() || a.anonymousMay(r) {
		return false
	}
	a.fail(w, r, &auth.DeniedError{User: u, Action: "call " + r.Method + " " + r.URL.Path})
	return true
}

func (a *API) anonymousMay(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return a.Access.AnonymousRead || a.isIndex(r)
	}
	return a.Access.AnonymousWrite
}

// gui serves the web application, which needs no authentication to load.
func (a *API) gui(h http.Handler) http.Handler {
	if a.GUI == nil {
		return h
	}
	files := http.StripPrefix(a.GUIPath, a.GUI)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == a.GUIPath || strings.HasPrefix(r.URL.Path, a.GUIPath+"/") {
			noteRoute(w, a.GUIPath)
			files.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// cors lets web pages of the configured origins call the API.
func (a *API) cors(h http.Handler) http.Handler {
	if len(a.CORSAllowedDomains) == 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		w.Header().Add("Vary", "Origin")
		if origin != "" && a.corsAllows(origin) {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Expose-Headers", "Atoll-Revision, ETag")
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.Header().Set("Access-Control-Allow-Methods", "GET, PUT, POST, DELETE")
				w.Header().Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, If-Match, If-None-Match, Atoll-Min-Revision")
				w.WriteHeader(http.StatusOK)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

func (a *API) corsAllows(origin string) bool {
	if slices.Contains(a.CORSAllowedDomains, "*") || slices.Contains(a.CORSAllowedDomains, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && slices.Contains(a.CORSAllowedDomains, u.Hostname())
}

// recovered answers 500 for a bug instead of ending the connection.
func (a *API) recovered(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler {
				panic(v)
			}
			a.Log.Error("a request hit a bug", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			if s, ok := w.(*recorder); !ok || s.status == 0 {
				a.fail(w, r, fmt.Errorf("panic: %v", v))
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	route  string
	status int
	bytes  int
}

// Unwrap lets http.ResponseController reach the connection.
func (s *recorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader notes the status.
func (s *recorder) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write counts bytes.
func (s *recorder) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	n, err := s.ResponseWriter.Write(b)
	s.bytes += n
	return n, err
}

// noteRoute names the route for metrics.
func noteRoute(w http.ResponseWriter, route string) {
	if s, ok := w.(*recorder); ok {
		s.route = route
	}
}

var knownMethods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions}

// measured counts and times requests by route, never by path: paths are without
// number. So are methods, which callers may make up.
func (a *API) measured(h http.Handler) http.Handler {
	labels := []string{"handler", "method", "code"}
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "api_server_http_request_duration_seconds", Help: "How long answering took.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, labels)
	size := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "api_server_http_response_size_bytes", Help: "Sizes of answers.",
		Buckets: prometheus.ExponentialBuckets(100, 10, 7),
	}, labels)
	inflight := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "api_server_http_requests_inflight", Help: "Requests being answered.",
	})
	if a.Metrics != nil {
		a.Metrics.MustRegister(duration, size, inflight)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &recorder{ResponseWriter: w, route: "unknown"}
		start := time.Now()
		inflight.Inc()
		defer func() {
			inflight.Dec()
			method, code := r.Method, strconv.Itoa(s.status)
			if !slices.Contains(knownMethods, method) {
				method = "other"
			}
			duration.WithLabelValues(s.route, method, code).Observe(time.Since(start).Seconds())
			size.WithLabelValues(s.route, method, code).Observe(float64(s.bytes))
		}()
		h.ServeHTTP(s, r)
	})
}

// revisionHeader carries the revision that an answer is from; minRevisionHeader
// the one that it must have at least.
const (
	revisionHeader    = "Atoll-Revision"
	minRevisionHeader = "Atoll-Min-Revision"
)

// maxRevisionWait bounds how long a read waits for a revision.
const maxRevisionWait = 10 * time.Second

// awaitRevision waits until the view has what the caller wrote or saw elsewhere.
func (a *API) awaitRevision(r *http.Request) error {
	text := r.Header.Get(minRevisionHeader)
	if text == "" {
		return nil
	}
	rev, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return badRequest("header %s must be a revision number, got %q", minRevisionHeader, text)
	}
	return a.await(r, store.Revision(rev))
}

// checkAccept refuses callers who take no JSON. Token endpoints answer text,
// which everybody takes who takes anything.
func checkAccept(r *http.Request) error {
	accept := r.Header.Values("Accept")
	if len(accept) == 0 {
		return nil
	}
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if quality(params) == 0 {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "", "*/*", "application/*", "application/json", "application/problem+json":
			return nil
		case "application/yaml", "application/x-yaml", "text/yaml":
			if r.URL.Path == openAPIPath {
				return nil
			}
		case "text/event-stream":
			if r.URL.Path == "/events" {
				return nil
			}
		case "text/plain", "text/*":
			if strings.HasPrefix(r.URL.Path, "/tokens/") {
				return nil
			}
		}
	}
	return &problem{http.StatusNotAcceptable, "Not Acceptable", "answers are application/json", nil}
}

func quality(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
			if q, err := strconv.ParseFloat(v, 64); err == nil {
				return q
			}
		}
	}
	return 1
}
