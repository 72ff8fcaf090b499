package meshaccesslog

import (
	"encoding/json"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// The forms of a line where a policy gives none. Tools read them.
const (
	httpFormat = `[%START_TIME%] %KUMA_MESH% "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-B3-TRACEID?X-DATADOG-TRACEID)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%KUMA_SOURCE_SERVICE%" "%KUMA_DESTINATION_SERVICE%" "%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%" "%UPSTREAM_HOST%"`
	tcpFormat  = `[%START_TIME%] %RESPONSE_FLAGS% %KUMA_MESH% %KUMA_SOURCE_ADDRESS_WITHOUT_PORT%(%KUMA_SOURCE_SERVICE%)->%UPSTREAM_HOST%(%KUMA_DESTINATION_SERVICE%) took %DURATION%ms, sent %BYTES_SENT% bytes, received: %BYTES_RECEIVED% bytes`
)

// What is known of the proxy only by the proxy, in layers that many share: what
// the bootstrap wrote into its node.
func ofNode(key string) string { return `%CEL(xds.node.metadata["` + key + `"])%` }

// line is what placeholders of one listener mean.
type line struct {
	mesh, zone, direction                  string
	address, source, destination, workload string
	// knownZone is the zone where the one above is left to Envoy.
	knownZone string
	agent     bool // takes what is for collectors
}

// shared is a line of proxies that send to a destination.
func shared(d policy.Dest) line {
	return line{
		mesh: d.KRI.Mesh, direction: "OUTBOUND", destination: d.KRI.Name,
		zone: ofNode("atoll.zone"), address: ofNode("atoll.address"), source: ofNode("atoll.source"), workload: ofNode("atoll.workload"),
	}
}

func own(f *policy.Facts, direction string) line {
	return line{
		mesh: f.Mesh, zone: f.Zone, knownZone: f.Zone, direction: direction, agent: f.Exports(),
		address: f.Address, source: "unknown", destination: "unknown", workload: f.WorkloadKRI(),
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func (l line) replacer(quote func(string) string) *strings.Replacer {
	return strings.NewReplacer(
		"%KUMA_SOURCE_ADDRESS%", quote(l.address+":0"),
		"%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%", quote(l.address),
		"%KUMA_SOURCE_SERVICE%", quote(l.source),
		"%KUMA_DESTINATION_SERVICE%", quote(l.destination),
		"%KUMA_MESH%", quote(l.mesh),
		"%KUMA_TRAFFIC_DIRECTION%", quote(l.direction),
		"%KUMA_ZONE%", quote(l.zone),
		"%KUMA_WORKLOAD%", quote(l.workload),
	)
}

func (l line) fill(format string) string {
	out, _ := policy.Literal(l.replacer(func(s string) string { return s }).Replace(format))
	return out
}

func (f *Format) isJSON() bool { return f != nil && f.Type == JSON }

func (f *Format) text(http bool) string {
	switch {
	case f != nil && f.Plain != nil && *f.Plain != "":
		return *f.Plain
	case http:
		return httpFormat
	}
	return tcpFormat
}

// object is the members of a JSON line.
func (f *Format) object(l line) map[string]string {
	out := map[string]string{}
	for _, kv := range f.JSON {
		// Keys and values are written as inside of quotes in a document.
		out[unquote(kv.Key)] = l.fill(unquote(kv.Value))
	}
	return out
}

func unquote(s string) string {
	var out string
	if json.Unmarshal([]byte(`"`+s+`"`), &out) != nil {
		return s
	}
	return out
}

func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil // strings and maps of them can be encoded
	}
	return b
}

// logs makes an entry for each backend. pipe is where lines for TCP go. Never
// nil, so that an empty list can be told from none.
func (c Conf) logs(l line, http bool, pipe string) []ir.AccessLog {
	out := []ir.AccessLog{}
	for i := range c.Backends {
		b := &c.Backends[i]
		switch {
		case b.Type == File && b.File != nil:
			out = append(out, fileLog(b.File.Path, b.File.Format, l, http))
		case b.Type == TCP && b.TCP != nil && pipe != "":
			out = append(out, tcpLog(pipe, b.TCP, l, http))
		case b.Type == OpenTelemetry && b.OpenTelemetry != nil && b.OpenTelemetry.Collector != nil:
			out = append(out, b.OpenTelemetry.log(l, http))
		}
	}
	return out
}

func omits(f *Format) bool { return f != nil && f.OmitEmptyValues != nil && *f.OmitEmptyValues }

func fileLog(path string, f *Format, l line, http bool) ir.AccessLog {
	x := ir.AccessLog{Path: path, OmitEmpty: omits(f)}
	if f.isJSON() {
		x.JSON = encode(f.object(l))
	} else {
		x.Text = l.fill(f.text(http)) + "\n"
	}
	return x
}

func tcpLog(pipe string, b *TCPBackend, l line, http bool) ir.AccessLog {
	message := any(l.fill(b.Format.text(http)) + "\n")
	if b.Format.isJSON() {
		message = b.Format.object(l)
	}
	return ir.AccessLog{Path: pipe, OmitEmpty: omits(b.Format), JSON: encode(map[string]any{"address": b.dialed(), "message": message})}
}

// dialed is the address without a scheme, as the agent dials it.
func (b *TCPBackend) dialed() string {
	_, rest, ok := strings.Cut(b.Address, "://")
	if !ok {
		return b.Address
	}
	return rest
}

func (o *OTelLog) log(l line, http bool) ir.AccessLog {
	x := &ir.OTLPLog{Cluster: clusterName(o.Collector), Body: encode(l.fill((*Format)(nil).text(http)))}
	if o.Body != nil {
		body, _ := policy.Literal(l.replacer(inQuotes).Replace(string(*o.Body)))
		x.Body = []byte(body)
	}
	for _, a := range o.Attributes {
		put(&x.Attributes, string(a.Key), l.fill(a.Value))
	}
	if c := o.Collector; c.HTTP && !l.agent {
		x.URI = c.URI("/v1/logs")
	}
	// Attributes of the resource are no formats: where only Envoy knows the
	// workload, it is an attribute of the record.
	for k, v := range map[string]string{"kuma.mesh": l.mesh, "kuma.zone": l.knownZone, "kuma.workload": l.workload} {
		switch _, given := x.Attributes[k]; {
		case v == "":
		case !strings.HasPrefix(v, "%"):
			put(&x.Resource, k, v)
		case !given:
			put(&x.Attributes, k, v)
		}
	}
	return ir.AccessLog{OTLP: x}
}

func put(m *map[string]string, k, v string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[k] = v
}

// inQuotes writes a value into a string of a JSON document.
func inQuotes(s string) string {
	b := encode(s)
	return string(b[1 : len(b)-1])
}

func clusterName(c *policy.Collector) string {
	return "system_meshaccesslog_otel_" + policy.CleanName(c.Name)
}
