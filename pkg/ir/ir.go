// Package ir is the plain description of what one Envoy does: listeners, routes,
// clusters, endpoints. Compilation and policies write it, pkg/envoy turns it
// into Envoy's messages, inspection prints it. It holds no behaviour and no
// types of Envoy. Durations that are nil leave Envoy's own default; a pointer to
// zero is written as zero.
package ir

import "time"

// Direction tells which side of the workload a listener is on.
type Direction string

// Directions of a listener.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// Protocols of a port.
const (
	TCP   = "tcp"
	HTTP1 = "http"
	HTTP2 = "http2"
	GRPC  = "grpc"
)

// IsHTTP reports whether a protocol is spoken by Envoy's HTTP connection
// manager.
func IsHTTP(protocol string) bool {
	return protocol == HTTP1 || protocol == HTTP2 || protocol == GRPC
}

// Listener accepts connections on one address.
type Listener struct {
	Name      string    `json:"name"`
	Direction Direction `json:"direction"`
	Address   string    `json:"address"`
	Port      uint32    `json:"port"`
	Also      []Address `json:"also,omitempty"`      // further addresses of the same listener
	NoBind    bool      `json:"noBind,omitempty"`    // reached through a redirecting listener only
	ReusePort bool      `json:"reusePort,omitempty"` // one socket per worker
	// OriginalDst hands each connection to the listener of its first destination.
	OriginalDst bool `json:"originalDst,omitempty"`
	// Tags appear in the metadata io.kuma.tags, which tools read.
	Tags map[string]string `json:"tags,omitempty"`
	// InspectTLS reads the server name and protocols that clients ask for, which
	// is done anyway where chains are matched by them.
	InspectTLS bool     `json:"inspectTLS,omitempty"`
	Chains     []*Chain `json:"chains"`
	// Patches are applied last, in order.
	Patches []*Patch `json:"patches,omitempty"`
	Removed bool     `json:"removed,omitempty"` // a patch removed it: it is not sent
	// InspectHTTP tells apart connections that begin with HTTP.
	InspectHTTP bool `json:"inspectHTTP,omitempty"`
	// SilentPorts are destination ports where the server speaks first, so that
	// nothing may wait for the client.
	SilentPorts []uint32 `json:"silentPorts,omitempty"`
	// Socket is the path of a unix socket, instead of Address and Port.
	Socket string `json:"socket,omitempty"`
}

// Address is an IP address and a port.
type Address struct {
	Address string `json:"address"`
	Port    uint32 `json:"port"`
}

// Chain handles the connections that its Match selects; HTTP or TCP is set, or
// neither, which closes them.
type Chain struct {
	Name  string     `json:"name,omitempty"`
	Match ChainMatch `json:"match,omitzero"`
	HTTP  *HTTP      `json:"http,omitempty"`
	TCP   *TCPProxy  `json:"tcp,omitempty"`
	// FilterState records facts of the TLS handshake for later matching: key to
	// format string, such as %DOWNSTREAM_PEER_URI_SAN%.
	FilterState map[string]string `json:"filterState,omitempty"`
	TLS         *DownstreamTLS    `json:"tls,omitempty"` // nil: bytes are taken as they come
	// Files are TLS with a certificate that the machine of the proxy has.
	Files *CertificateFiles `json:"files,omitempty"`
	RBAC  *RBAC             `json:"rbac,omitempty"` // of connections that are no HTTP
	// Closed counts how often connections shall have been closed: those that came
	// by the chain when it was another are.
	Closed int64 `json:"closed,omitempty"`
	// ConnectionLimit closes connections above it.
	ConnectionLimit *TokenBucket `json:"connectionLimit,omitempty"`
}

// ChainMatch selects connections. All set fields must hold.
type ChainMatch struct {
	TransportProtocol string   `json:"transportProtocol,omitempty"` // "tls" or "raw_buffer"
	ServerNames       []string `json:"serverNames,omitempty"`
	// ApplicationProtocols are those of which the client offers one.
	ApplicationProtocols []string `json:"applicationProtocols,omitempty"`
	Port                 uint32   `json:"port,omitempty"`     // of the destination; 0: any
	Prefixes             []string `json:"prefixes,omitempty"` // of the destination, such as 10.0.0.0/8
}

// HTTP is an HTTP connection manager whose routes arrive by RDS.
type HTTP struct {
	StatPrefix  string `json:"statPrefix"`
	RouteConfig string `json:"routeConfig"`
	// Inline are the routes themselves, for patches that look for them here.
	Inline                *RouteConfig   `json:"inline,omitempty"`
	GRPCStats             bool           `json:"grpcStats,omitempty"`
	ClientCertDetails     bool           `json:"clientCertDetails,omitempty"` // SANITIZE_SET with the peer's URI
	NormalizePath         bool           `json:"normalizePath,omitempty"`
	InternalCIDRs         []string       `json:"internalCIDRs,omitempty"`
	IdleTimeout           *time.Duration `json:"idleTimeout,omitempty"`
	StreamIdleTimeout     *time.Duration `json:"streamIdleTimeout,omitempty"`
	RequestHeadersTimeout *time.Duration `json:"requestHeadersTimeout,omitempty"`
	// Guarded: the RBAC of the RouteConfig decides about requests. Limited: routes
	// may have a Limit. Disturbed: routes may have a Fault. All cost nothing as
	// long as there is none. What routes have takes effect at once; a change of
	// filters only on new connections.
	Guarded   bool        `json:"guarded,omitempty"`
	Limited   bool        `json:"limited,omitempty"`
	Disturbed bool        `json:"disturbed,omitempty"`
	Faults    []Fault     `json:"faults,omitempty"` // in order
	Logs      []AccessLog `json:"logs,omitempty"`
	Tracing   *Tracing    `json:"tracing,omitempty"` // nil: nothing is traced
}

// TCPProxy forwards bytes.
type TCPProxy struct {
	StatPrefix  string         `json:"statPrefix"`
	Clusters    []WeightedRef  `json:"clusters"` // one or more
	IdleTimeout *time.Duration `json:"idleTimeout,omitempty"`
	// MaxConnectAttempts is how often connecting is tried; 0 is once.
	MaxConnectAttempts uint32 `json:"maxConnectAttempts,omitempty"`
	// AttemptPause is about the time between the first two of them, which grows
	// up to tenfold; nil: none.
	AttemptPause *time.Duration `json:"attemptInterval,omitempty"`
	// Hash is SourceIP or State; nil is neither.
	Hash *Hash       `json:"hash,omitempty"`
	Logs []AccessLog `json:"logs,omitempty"`
	// LogConnected writes an entry also when a connection is established, and not
	// only at its end.
	LogConnected bool `json:"logConnected,omitempty"`
}

// WeightedRef names a cluster and its share of the sum of weights.
type WeightedRef struct {
	Cluster string `json:"cluster"`
	Weight  uint32 `json:"weight"`
}

// RouteConfig is the routes of one listener, sent by RDS under Name.
type RouteConfig struct {
	Name                 string   `json:"name"`
	VirtualHost          string   `json:"virtualHost"`
	RemoveRequestHeaders []string `json:"removeRequestHeaders,omitempty"`
	Routes               []*Route `json:"routes"` // first match wins
	Patches              []*Patch `json:"patches,omitempty"`
	// Hosts have routes of their own; VirtualHost takes what is for none of them.
	Hosts []Host `json:"hosts,omitempty"`
	// MaxBody is the largest Body of a Direct; 0: 4096 bytes.
	MaxBody uint32 `json:"maxBody,omitempty"`
	// RBAC decides about the requests that come where the HTTP of a chain is
	// Guarded.
	RBAC *RBAC `json:"rbac,omitempty"`
}

// Host is the routes of requests for some domains.
type Host struct {
	Name    string   `json:"name"`
	Domains []string `json:"domains"`
	Routes  []*Route `json:"routes"`
}

// Route says what happens to the requests it matches. Exactly one of Forward,
// Redirect and Direct is set.
type Route struct {
	Name            string     `json:"name,omitempty"`
	Match           RouteMatch `json:"match"`
	Forward         *Forward   `json:"forward,omitempty"`
	Redirect        *Redirect  `json:"redirect,omitempty"`
	Direct          *Direct    `json:"direct,omitempty"`
	RequestHeaders  HeaderOps  `json:"requestHeaders,omitzero"`
	ResponseHeaders HeaderOps  `json:"responseHeaders,omitzero"`
	// Fault takes effect where the HTTP of the chain is Disturbed. It is for all
	// clients.
	Fault *Fault `json:"fault,omitempty"`
	// Limit takes effect where the HTTP of the chain is Limited.
	Limit *RequestLimit `json:"limit,omitempty"`
	// Logs instead of those of the chain. Whoever makes the listener puts them
	// there.
	Logs []AccessLog `json:"logs,omitempty"`
}

// RouteMatch selects requests. Exactly one of Path, Prefix and Regex is set.
type RouteMatch struct {
	Path    string       `json:"path,omitempty"`
	Prefix  string       `json:"prefix,omitempty"`
	Regex   string       `json:"regex,omitempty"` // RE2, whole path
	Method  string       `json:"method,omitempty"`
	Headers []ValueMatch `json:"headers,omitempty"`
	Query   []ValueMatch `json:"query,omitempty"`
	// Fraction of the matching requests that the route takes; nil takes all.
	Fraction *Fraction `json:"fraction,omitempty"`
	// FilterState conditions on what a Chain recorded.
	FilterState []ValueMatch `json:"filterState,omitempty"`
	// Clients are compared with the identity of the client, Exact or Prefix, and
	// all must hold. Of a chain that does not set ClientCertDetails nobody does.
	Clients []ValueMatch `json:"clients,omitempty"`
}

// Kinds of ValueMatch.
const (
	MatchExact   = "Exact"
	MatchPrefix  = "Prefix"
	MatchRegex   = "RegularExpression"
	MatchPresent = "Present"
	MatchAbsent  = "Absent"
)

// ValueMatch compares a named value.
type ValueMatch struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Value string `json:"value,omitempty"`
}

// Fraction is a share, Numerator of Denominator (100, 10000 or 1000000).
type Fraction struct {
	Numerator   uint32 `json:"numerator"`
	Denominator uint32 `json:"denominator"`
}

// Forward sends requests to clusters.
type Forward struct {
	Clusters        []WeightedRef  `json:"clusters"` // one or more
	Timeout         *time.Duration `json:"timeout,omitempty"`
	IdleTimeout     *time.Duration `json:"idleTimeout,omitempty"`
	HostRewrite     string         `json:"hostRewrite,omitempty"`
	AutoHostRewrite bool           `json:"autoHostRewrite,omitempty"`
	PathRewrite     *PathRewrite   `json:"pathRewrite,omitempty"`
	Mirrors         []Mirror       `json:"mirrors,omitempty"`
	Retry           *Retry         `json:"retry,omitempty"`
	Hash            []Hash         `json:"hash,omitempty"` // all that a request has count together
}

// PathRewrite changes the path: the whole of it, or the matched prefix.
type PathRewrite struct {
	Full   *string `json:"full,omitempty"`
	Prefix *string `json:"prefix,omitempty"`
}

// Mirror copies a share of requests to a cluster and ignores the answers.
type Mirror struct {
	Cluster  string    `json:"cluster"`
	Fraction *Fraction `json:"fraction,omitempty"` // nil: all
}

// Redirect answers with another location.
type Redirect struct {
	Scheme string       `json:"scheme,omitempty"`
	Host   string       `json:"host,omitempty"`
	Port   uint32       `json:"port,omitempty"`
	Status uint32       `json:"status"` // 301, 302, 303, 307 or 308
	Path   *PathRewrite `json:"path,omitempty"`
}

// Direct answers at once.
type Direct struct {
	Status uint32 `json:"status"`
	Body   string `json:"body,omitempty"`
}

// HeaderOps changes headers: set, then add, then remove.
type HeaderOps struct {
	Set    []Header `json:"set,omitempty"`
	Add    []Header `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// Header is a name and a value, which Envoy may expand (%…%).
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ClusterType is how Envoy finds the endpoints of a cluster.
type ClusterType string

// Types of cluster.
const (
	EDS         ClusterType = "EDS"
	Static      ClusterType = "STATIC"
	StrictDNS   ClusterType = "STRICT_DNS"
	OriginalDst ClusterType = "ORIGINAL_DST"
)

// Cluster is a group of equal endpoints and how to talk to them.
type Cluster struct {
	Name           string         `json:"name"`
	Type           ClusterType    `json:"type"`
	Protocol       string         `json:"protocol,omitempty"` // HTTP1, HTTP2 or GRPC set HTTP options, TCP none
	ConnectTimeout *time.Duration `json:"connectTimeout,omitempty"`
	HTTP           ClusterHTTP    `json:"http,omitzero"`
	// KeepAlive is of connections that carry HTTP/2.
	KeepAlive *KeepAlive `json:"keepAlive,omitempty"`
	// Watch has the kernel look after connections, and CloseOnFailure closes those
	// to endpoints that are found to fail: for bytes, where nothing else ends them.
	Watch          *Watch `json:"watch,omitempty"`
	CloseOnFailure bool   `json:"closeOnFailure,omitempty"`

	Endpoints  []Endpoint   `json:"endpoints,omitempty"`  // of Static and StrictDNS
	BindSource string       `json:"bindSource,omitempty"` // source address of connections
	TLS        *UpstreamTLS `json:"tls,omitempty"`        // nil: bytes go as they are
	Socket     string       `json:"socket,omitempty"`     // unix socket instead of Endpoints
	Patches    []*Patch     `json:"patches,omitempty"`
	Removed    bool         `json:"removed,omitempty"` // a patch removed it: it is not sent
	// Localities of Static and StrictDNS are Endpoints with places and priorities.
	Localities []Locality `json:"localities,omitempty"`
	// External is set for what is outside the mesh and speaks TLS.
	External     *ExternalTLS  `json:"external,omitempty"`
	Limits       Limits        `json:"limits,omitzero"`
	Outliers     *Outliers     `json:"outliers,omitempty"`
	HealthChecks []HealthCheck `json:"healthChecks,omitempty"`
	Balancer     *Balancer     `json:"balancer,omitempty"`
	// LocalityWeighted makes the weights of localities count.
	LocalityWeighted bool `json:"localityWeighted,omitempty"`
	// PanicThreshold is the percentage of healthy endpoints below which all are
	// used, or with FailOnPanic none.
	PanicThreshold *float64 `json:"panicThreshold,omitempty"`
	FailOnPanic    bool     `json:"failOnPanic,omitempty"`
}

// ClusterHTTP limits connections of an HTTP cluster.
type ClusterHTTP struct {
	IdleTimeout           *time.Duration `json:"idleTimeout,omitempty"`
	MaxStreamDuration     *time.Duration `json:"maxStreamDuration,omitempty"`
	MaxConnectionDuration *time.Duration `json:"maxConnectionDuration,omitempty"`
	// MaxRequests is how many a connection carries; 0: any number.
	MaxRequests uint32 `json:"maxRequests,omitempty"`
}

// KeepAlive asks the other side of a connection whether it is there.
type KeepAlive struct {
	Interval time.Duration `json:"intervalDuration"`
	Timeout  time.Duration `json:"timeout"` // without an answer the connection is closed
}

// Watch closes a connection whose other host is gone: where nothing is under way
// after Probes questions, else when nothing was acknowledged for Unacknowledged.
type Watch struct {
	Idle           time.Duration `json:"idleDuration"` // before the first question
	Interval       time.Duration `json:"intervalDuration"`
	Probes         uint32        `json:"probes"`
	Unacknowledged time.Duration `json:"unacknowledgedDuration"`
}

// ClusterLoad is the endpoints of an EDS cluster.
type ClusterLoad struct {
	Cluster    string     `json:"cluster"`
	Localities []Locality `json:"localities,omitempty"`
	// Overprovisioning is in percent; 0 is Envoy's default.
	Overprovisioning uint32 `json:"overprovisioning,omitempty"`
}

// Locality is a group of endpoints with a place and a priority, 0 first.
type Locality struct {
	Zone      string     `json:"zone,omitempty"`
	SubZone   string     `json:"subZone,omitempty"`
	Priority  uint32     `json:"priority,omitempty"`
	Weight    uint32     `json:"weight,omitempty"` // 0: none
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is one address that serves. Labels go to the metadata envoy.lb and
// envoy.transport_socket_match.
type Endpoint struct {
	Address string `json:"address"`
	Port    uint32 `json:"port"`
	Weight  uint32 `json:"weight,omitempty"` // 0: 1
	// Away is the percentage of its requests that go elsewhere. Weight says so already.
	Away   uint32            `json:"away,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Config is everything that one layer of a proxy's configuration holds.
type Config struct {
	Listeners []*Listener    `json:"listeners,omitempty"`
	Routes    []*RouteConfig `json:"routes,omitempty"`
	Clusters  []*Cluster     `json:"clusters,omitempty"`
	Loads     []*ClusterLoad `json:"loads,omitempty"`
	Secrets   []*Secret      `json:"secrets,omitempty"`
	// Added are patches that add clusters and listeners.
	Added []*Patch `json:"added,omitempty"`
}
