// Package rest serves the HTTP API of a control plane: every kind of resource
// generically, and what people and tools ask about the whole. Reads come from
// the view and never wait for the store; a write answers once the view has it.
package rest

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/observe"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Config is what the API stands on. Fields without comment are required.
type Config struct {
	View  *view.View
	Store store.Store
	Kinds *resource.Kinds
	Site  resource.Site

	Auth   *auth.Authenticator // SkipTokens is set by the API
	Access *auth.Access
	Tokens *auth.Tokens // nil: no token endpoints

	// MeshDefaults returns what is created together with a new Mesh: default
	// policies and its signing key. Nil: nothing.
	MeshDefaults func(mesh *resource.Object) ([]*resource.Object, error)
	// ZoneSync returns the live state of a zone's sync, which overviews and
	// insights of zones show, or nil. Nil: unknown.
	ZoneSync func(zone string) *systemv1.ZoneSync

	// Compile is what configuration is made of, for inspection.
	Compile compile.Inputs
	// ProxyInfo is what a proxy said about itself, as its insight has it. Nil:
	// no proxies are compiled for here.
	ProxyInfo func(dataplane resource.ID, insight *meshv1.DataplaneInsight) compile.ProxyInfo
	// AskProxy passes a question on to a proxy. The error is for the caller. Nil:
	// proxies cannot be asked.
	AskProxy func(ctx context.Context, dataplane *resource.Object, q ProxyQuestion) ([]byte, error)
	// SpiffeID is the identity of a proxy, or empty. Nil: not known.
	SpiffeID func(s *view.Snapshot, dataplane *resource.Object) string

	// Adopt makes a zone follow whichever global it is connected to. Nil: this is
	// no zone of a global.
	Adopt func(ctx context.Context) error

	ReadOnly                bool   // no resource can be written
	UnsafeDelete            bool   // meshes with Dataplanes and connected zones may be deleted
	DisableOriginValidation bool   // the label kuma.io/origin is not checked
	BasePath                string // prefix of all paths but the GUI's; empty: none
	RootURL                 string // how clients reach the API; empty: as the request says
	CORSAllowedDomains      []string
	MaxBodyBytes            int64 // 0: 5 MiB
	MaxRequests             int   // answered at a time; 0: 1000

	Audit *slog.Logger // one line a write, denial and token; nil: none

	Hostname   string
	InstanceID string
	Settings   []byte // JSON for GET /config, without secrets

	GUI     http.Handler // files of the GUI; nil: none
	GUIPath string       // where; empty: /gui

	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: no metrics
	Now     func() time.Time      // nil: time.Now
}

// API answers requests. It is safe for concurrent use.
type API struct {
	Config
	started     time.Time
	turns       *turns
	served      []servedRoute          // all routes, in order; complete once the handler is made
	description func() ([]byte, error) // the OpenAPI document
	overviews   overviewCache
	indexes     indexCache
	meshes      meshInsights
	looking     queue // to look ahead: each takes all processors that it can get
	feed        feed
	streams     atomic.Int64
	slots       slots
	logReads    queue // to read much of the log
	insight     struct {
		sync.Mutex
		revision store.Revision
		body     []byte
	}
}

const defaultMaxBody = 5 << 20

// New makes the handler of the whole API.
func New(cfg Config) http.Handler { return newAPI(cfg).handler() }

func newAPI(cfg Config) *API {
	if cfg.MaxBodyBytes == 0 {
		cfg.MaxBodyBytes = defaultMaxBody
	}
	if cfg.GUIPath == "" {
		cfg.GUIPath = "/gui"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.BasePath = strings.TrimSuffix(cfg.BasePath, "/")
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = defaultRequests
	}
	a := &API{Config: cfg, started: cfg.Now(), turns: newTurns(), slots: make(slots, cfg.MaxRequests), looking: newQueue(1), logReads: newQueue(2)}
	a.description = sync.OnceValues(a.makeDescription)
	return a
}

// handler wraps the routes from the inside out.
func (a *API) handler() http.Handler {
	var h http.Handler = a.routes()
	if a.BasePath != "" {
		h = a.strip(h)
	}
	h = noteCaller(a.guard(h))
	authn := *a.Auth
	authn.SkipTokens = a.isIndex
	h = authn.Middleware(h, func(w http.ResponseWriter, r *http.Request, err error) {
		a.Log.Info("a token was refused", "remote", r.RemoteAddr, "path", r.URL.Path, "reason", err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		a.fail(w, r, &problem{http.StatusUnauthorized, "Invalid authentication data", "Unauthenticated", nil})
	})
	h = a.audited(h)
	h = a.cors(h)
	h = a.gui(h)
	h = a.recovered(h)
	return a.measured(h)
}

// endpoint answers one kind of request, or returns why it cannot.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// methods are the endpoints of a path.
type methods map[string]endpoint

// routes is the whole API, readable from top to bottom.
func (a *API) routes() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, m methods) {
		a.served = append(a.served, servedRoute{pattern, m})
		mux.Handle(pattern, a.dispatch(pattern, m))
	}
	get := func(pattern string, e endpoint) { route(pattern, methods{http.MethodGet: e}) }

	get("/{$}", a.index)
	get("/config", a.config)
	get("/who-am-i", a.whoAmI)
	get("/_resources", a.resourceTypes)
	get("/policies", a.policies)
	get(openAPIPath, a.openAPI)
	get("/_kri/{kri}", a.byKRI)
	get("/global-insight", a.globalInsight)
	get("/global-insights", a.globalInsights)
	for k := range a.Kinds.All() {
		if !k.Internal {
			a.kindRoutes(route, k)
		}
	}
	a.overviewRoutes(get)
	a.inspectRoutes(get)
	a.failoverRoutes(get)
	a.drainRoutes(route)
	a.linkRoutes(get)
	route("/zone/_adopt", methods{http.MethodPost: a.adopt})
	a.pastRoutes(route)
	if a.Tokens != nil {
		route("/tokens/dataplane", methods{http.MethodPost: a.dataplaneToken})
		route("/tokens/zone", methods{http.MethodPost: a.zoneToken})
		route("/tokens/user", methods{http.MethodPost: a.userToken})
	}
	mux.HandleFunc("/", a.nothing(mux))
	return mux
}

func (a *API) kindRoutes(route func(string, methods), k *resource.Kind) {
	read := methods{http.MethodGet: a.get(k)}
	list := a.list(k)
	if k.Type == kind.MeshInsight { // computed, not stored
		list, read = a.listMeshInsights(k), methods{http.MethodGet: a.getMeshInsight(k)}
	}
	read[http.MethodPut], read[http.MethodDelete] = a.put(k), a.delete(k)
	for _, p := range append([]string{k.Plural}, k.Aliases...) {
		if k.Scope == resource.ScopeMesh {
			route("/"+p, methods{http.MethodGet: list})
			p = "meshes/{mesh}/" + p
		}
		route("/"+p, methods{http.MethodGet: list})
		route("/"+p+"/{name}", read)
	}
}

// dispatch picks the endpoint for a request's method.
func (a *API) dispatch(pattern string, m methods) http.Handler {
	allowed := make([]string, 0, len(m))
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if m[method] != nil {
			allowed = append(allowed, method)
		}
	}
	// The frame of this function stays on the stack of each stream of events: what
	// needs room is done before, elsewhere.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := m[r.Method]
		if r.Method == http.MethodHead {
			e = m[http.MethodGet]
		}
		r, place := a.enter(w, r, pattern, e != nil, allowed)
		if place == nil {
			return
		}
		defer place.leave()
		err := a.ready(r)
		if err == nil {
			err = e(w, r)
		}
		if err != nil {
			a.fail(w, r, err)
		}
	})
}

// enter gives a request its place, or answers why it has none.
func (a *API) enter(w http.ResponseWriter, r *http.Request, pattern string, possible bool, allowed []string) (*http.Request, *slot) {
	if !possible {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		a.fail(w, r, &problem{http.StatusMethodNotAllowed, "Method Not Allowed", r.Method + " is not possible here; use " + strings.Join(allowed, " or "), nil})
		return r, nil
	}
	noteRoute(w, pattern)
	r, place, ok := a.slots.enter(r)
	if !ok {
		a.fail(w, r, busy("too many requests are being answered; try again"))
		return r, nil
	}
	return r, place
}

// ready tells whether a request can be answered as it wants, and waits until what
// it wants to see is there.
func (a *API) ready(r *http.Request) error {
	if err := checkAccept(r); err != nil {
		return err
	}
	return a.awaitRevision(r)
}

// newHTTPServer makes an http.Server with the API's limits around a handler.
func newHTTPServer(h http.Handler, t Timeouts, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: t.ReadHeader,
		ReadTimeout:       t.Read,
		WriteTimeout:      t.Write,
		IdleTimeout:       t.Idle,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          observe.ServerLog(log),
	}
}
