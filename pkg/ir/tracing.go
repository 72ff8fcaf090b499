package ir

// Tracing makes spans of requests and sends them to a collector: at most one of
// Zipkin, Datadog and OTLP is set. Without any spans go nowhere.
type Tracing struct {
	// Shares in percent; nil is all: of requests that ask for a trace, of those
	// that do not, and of both together.
	Client  *float64       `json:"client,omitempty"`
	Random  *float64       `json:"random,omitempty"`
	Overall *float64       `json:"overall,omitempty"`
	Tags    []TraceTag     `json:"tags,omitempty"`
	Zipkin  *ZipkinTracer  `json:"zipkin,omitempty"`
	Datadog *DatadogTracer `json:"datadog,omitempty"`
	OTLP    *OTLPTracer    `json:"otlp,omitempty"`
}

// TraceTag is added to each span: the value of a request header, or Value when
// the request has none or Header is empty.
type TraceTag struct {
	Name   string `json:"name"`
	Header string `json:"header,omitempty"`
	Value  string `json:"value,omitempty"`
	// Env is a variable of Envoy's environment that has the value, instead of the
	// others. Without it the tag is left out.
	Env string `json:"env,omitempty"`
}

// ZipkinTracer posts spans in one of Zipkin's formats.
type ZipkinTracer struct {
	Cluster       string `json:"cluster"`
	Host          string `json:"host"` // with the port, as requests name it
	Path          string `json:"path"`
	Proto         bool   `json:"proto,omitempty"`         // else JSON
	TraceID128Bit bool   `json:"traceID128bit,omitempty"` // else 64
	// SharedSpan: client and server write into the same span.
	SharedSpan bool `json:"sharedSpan,omitempty"`
}

// DatadogTracer sends spans to an agent of Datadog.
type DatadogTracer struct {
	Cluster string `json:"cluster"`
	Service string `json:"service"`
}

// OTLPTracer sends spans to an OpenTelemetry collector.
type OTLPTracer struct {
	Cluster string `json:"cluster"`
	Service string `json:"service"`
	URI     string `json:"uri,omitempty"` // for OTLP over HTTP; empty: gRPC
	// FromEnv has OTEL_RESOURCE_ATTRIBUTES in Envoy's environment win over Service.
	FromEnv bool `json:"fromEnv,omitempty"`
}
