package policy

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// operator is a command operator: a percent sign, a name, parameters in
// parentheses and a length after a colon if any, and a percent sign.
var operator = regexp.MustCompile(`^%([A-Z0-9_]+)(?:\((.*?)\))?(:[0-9]+)?%`)

// syntax is what may follow the name of an operator.
type syntax struct {
	required bool // it has parameters
	length   bool // it may be cut to a length
	check    func(params string) bool
}

// operators are those of Envoy 1.40 that take more than their name.
var operators = func() map[string]syntax {
	out := map[string]syntax{
		"CEL":                   {required: true, length: true},
		"CLUSTER_METADATA":      {required: true},
		"COALESCE":              {required: true, length: true, check: func(p string) bool { return json.Valid([]byte(p)) }},
		"COMMON_DURATION":       {required: true, check: between},
		"DYNAMIC_METADATA":      {required: true, length: true},
		"ENVIRONMENT":           {required: true, length: true},
		"FILTER_STATE":          {required: true, length: true, check: object},
		"GRPC_STATUS":           {check: oneOf("", "CAMEL_STRING", "SNAKE_STRING", "NUMBER")},
		"METADATA":              {required: true, length: true, check: place},
		"PATH":                  {length: true, check: firstOf("", "WQ", "NQ")},
		"QUERY_PARAM":           {required: true, length: true},
		"QUERY_PARAMS":          {length: true, check: oneOf("", "ORIG", "DECODED")},
		"REQUESTED_SERVER_NAME": {check: firstOf("", "SNI_ONLY", "SNI_FIRST", "HOST_FIRST")},
		"UPSTREAM_FILTER_STATE": {required: true, length: true, check: object},
		"UPSTREAM_METADATA":     {required: true},
	}
	for _, name := range []string{"REQ", "REQUEST_HEADER", "RESP", "RESPONSE_HEADER", "RESPONSE_TRAILER", "TRAILER"} {
		out[name] = syntax{required: true, length: true, check: func(p string) bool { return strings.Count(p, "?") <= 1 }}
	}
	for _, name := range strings.Fields(formatted) {
		out[name] = syntax{}
	}
	for _, name := range strings.Fields(plain) {
		out[name] = syntax{check: oneOf("")}
	}
	return out
}()

func oneOf(known ...string) func(string) bool {
	return func(p string) bool { return slices.Contains(known, p) }
}

// firstOf looks at the first of several parameters.
func firstOf(known ...string) func(string) bool {
	return func(p string) bool {
		first, _, _ := strings.Cut(p, ":")
		return slices.Contains(known, first)
	}
}

// between takes two points in time, and a unit if any.
func between(p string) bool { return strings.Count(p, ":") == 1 || strings.Count(p, ":") == 2 }

// place takes where the metadata is, and its name and path if any.
func place(p string) bool {
	return firstOf("DYNAMIC", "CLUSTER", "ROUTE", "UPSTREAM_HOST", "LISTENER", "VIRTUAL_HOST", "LISTENER_FILTER_CHAIN")(p)
}

// object takes a key, and how to write what is there.
func object(p string) bool {
	key, how, _ := strings.Cut(p, ":")
	return key != "" && firstOf("", "PLAIN", "TYPED", "FIELD")(how)
}

// Operators that may have a format as parameter.
const formatted = `
	DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT
	DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_PEER_CERT_V_START
	DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT EMIT_TIME EMIT_TIME_LOCAL RESPONSE_CODE_DETAILS START_TIME
	START_TIME_LOCAL UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT UPSTREAM_PEER_CERT_V_END UPSTREAM_PEER_CERT_V_START
	UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT`

// Operators that are nothing but their name.
const plain = `
	ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_RETRANSMITTED BYTES_SENT CONNECTION_ID CONNECTION_TERMINATION_DETAILS
	CUSTOM_FLAGS DOWNSTREAM_CX_RTT DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED
	DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT DOWNSTREAM_DETECTED_CLOSE_TYPE DOWNSTREAM_DIRECT_LOCAL_ADDRESS
	DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_DIRECT_LOCAL_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS
	DOWNSTREAM_DIRECT_REMOTE_PORT DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_HEADER_BYTES_RECEIVED
	DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID
	DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_EMAIL_SAN DOWNSTREAM_LOCAL_IP_SAN
	DOWNSTREAM_LOCAL_OTHERNAME_SAN DOWNSTREAM_LOCAL_PORT DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN
	DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256
	DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_FINGERPRINT_1
	DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_ISSUER
	DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256 DOWNSTREAM_PEER_ISSUER_SERIAL DOWNSTREAM_PEER_OTHERNAME_SAN
	DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_REMOTE_ADDRESS
	DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_GROUP DOWNSTREAM_TLS_SESSION_ID
	DOWNSTREAM_TLS_VERSION DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_WIRE_BYTES_RECEIVED
	DOWNSTREAM_WIRE_BYTES_SENT DURATION FILTER_CHAIN_NAME GRPC_STATUS_NUMBER HOSTNAME LOCAL_REPLY_BODY PROTOCOL
	REQUEST_DURATION REQUEST_HEADERS_BYTES REQUEST_TX_DURATION RESPONSE_CODE RESPONSE_DURATION RESPONSE_FLAGS
	RESPONSE_FLAGS_LONG RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES RESPONSE_TX_DURATION ROUNDTRIP_DURATION
	ROUTE_NAME ROUTE_RESOLUTION_COUNT ROUTE_RESOLUTION_TIME_US SPAN_ID STREAM_ID TLS_JA3_FINGERPRINT
	TLS_JA4_FINGERPRINT TRACE_ID UNIQUE_ID UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_CONNECTION_ID
	UPSTREAM_CONNECTION_IDS_ATTEMPTED UPSTREAM_CONNECTION_POOL_READY_DURATION
	UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT
	UPSTREAM_DETECTED_CLOSE_TYPE UPSTREAM_HEADER_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HOST
	UPSTREAM_HOSTS_ATTEMPTED UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT UPSTREAM_HOST_NAME
	UPSTREAM_HOST_NAMES_ATTEMPTED UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT UPSTREAM_HOST_NAME_WITHOUT_PORT
	UPSTREAM_LOCAL_ADDRESS UPSTREAM_LOCAL_CLOSE_REASON UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN
	UPSTREAM_LOCAL_PORT UPSTREAM_LOCAL_URI_SAN UPSTREAM_PEER_CERT UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN
	UPSTREAM_PEER_ISSUER UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_URI_SAN UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS
	UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_SERVER_NAME
	UPSTREAM_TLS_CIPHER UPSTREAM_TLS_GROUP UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_VERSION
	UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_WIRE_BYTES_SENT VIRTUAL_CLUSTER_NAME`

// known reports whether Envoy knows what begins there, and how long it is.
func known(format string) (length int, ok bool) {
	m := operator.FindStringSubmatch(format)
	if m == nil {
		return 0, false
	}
	s, ok := operators[m[1]]
	ok = ok && (m[2] != "" || !s.required) && (m[3] == "" || s.length) && (s.check == nil || s.check(m[2]))
	return len(m[0]), ok
}

// Literal doubles the percent signs that begin nothing that Envoy knows: a
// format in which one stands alone would be refused, with all that is beside it.
// strange is the first of what was taken for text.
func Literal(format string) (out, strange string) {
	var b strings.Builder
	for format != "" {
		at := strings.IndexByte(format, '%')
		if at < 0 {
			break
		}
		b.WriteString(format[:at])
		format = format[at:]
		n, ok := known(format)
		switch {
		case strings.HasPrefix(format, "%%"):
			b.WriteString("%%")
			format = format[2:]
		case ok:
			b.WriteString(format[:n])
			format = format[n:]
		default:
			n = max(n, 1)
			if strange == "" {
				strange = format[:n]
			}
			b.WriteString(strings.ReplaceAll(format[:n], "%", "%%"))
			format = format[n:]
		}
	}
	return b.String() + format, strange
}
