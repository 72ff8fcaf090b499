// Package otlp takes traces, logs and metrics on unix sockets and sends them to
// OpenTelemetry collectors, as the control plane and the agent's OTEL_* variables
// say.
package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Signal is a sort of data.
type Signal string

// Signals.
const (
	Traces  Signal = "traces"
	Logs    Signal = "logs"
	Metrics Signal = "metrics"
)

var signals = []Signal{Traces, Logs, Metrics}

// kinds are the names of the OTEL_EXPORTER_OTLP_ variables.
var kinds = []struct{ variable, name string }{
	{"ENDPOINT", "endpoint"}, {"PROTOCOL", "protocol"}, {"HEADERS", "headers"}, {"TIMEOUT", "timeout"},
	{"COMPRESSION", "compression"}, {"INSECURE", "insecure"}, {"CERTIFICATE", "certificate"},
	{"CLIENT_CERTIFICATE", "clientCertificate"}, {"CLIENT_KEY", "clientKey"},
}

// values are the variables of one signal, or those for all, by kind.
type values map[string]string

// Env is the OTEL_* variables of the agent.
type Env struct {
	shared values
	own    map[Signal]values
}

const prefix = "OTEL_EXPORTER_OTLP_"

// ReadEnv reads the variables.
func ReadEnv(getenv func(string) string) *Env {
	read := func(infix string) values {
		v := values{}
		for _, k := range kinds {
			if s := getenv(prefix + infix + k.variable); s != "" {
				v[k.name] = s
			}
		}
		return v
	}
	e := &Env{shared: read(""), own: map[Signal]values{}}
	for _, s := range signals {
		e.own[s] = read(strings.ToUpper(string(s)) + "_")
	}
	return e
}

// Part of an Inventory: what is set, and what is wrong with it.
type Part struct {
	Endpoint          bool     `json:"endpoint"`
	Protocol          bool     `json:"protocol"`
	Headers           bool     `json:"headers"`
	Timeout           bool     `json:"timeout"`
	Compression       bool     `json:"compression"`
	Insecure          bool     `json:"insecure"`
	Certificate       bool     `json:"certificate"`
	ClientCertificate bool     `json:"clientCertificate"`
	ClientKey         bool     `json:"clientKey"`
	AuthMode          string   `json:"authMode"` // none, headers, tls or mtls
	OverrideKinds     []string `json:"overrideKinds,omitempty"`
}

// Inventory tells which variables are set, without their values.
type Inventory struct {
	Shared           *Part    `json:"shared,omitempty"`
	Traces           *Part    `json:"traces,omitempty"`
	Logs             *Part    `json:"logs,omitempty"`
	Metrics          *Part    `json:"metrics,omitempty"`
	ValidationErrors []string `json:"validationErrors,omitempty"` // such as shared.protocol
}

// Inventory returns nil when no variable is set.
func (e *Env) Inventory() *Inventory {
	i := &Inventory{}
	some := false
	for _, x := range []struct {
		name string
		v    values
		into **Part
	}{{"shared", e.shared, &i.Shared}, {"traces", e.own[Traces], &i.Traces}, {"logs", e.own[Logs], &i.Logs}, {"metrics", e.own[Metrics], &i.Metrics}} {
		if len(x.v) == 0 {
			continue
		}
		some = true
		*x.into = x.v.part(x.name != "shared")
		for kind := range x.v.check() {
			i.ValidationErrors = append(i.ValidationErrors, x.name+"."+kind)
		}
	}
	if !some {
		return nil
	}
	return i
}

func (v values) part(overrides bool) *Part {
	has := func(kind string) bool { _, ok := v[kind]; return ok }
	p := &Part{
		Endpoint: has("endpoint"), Protocol: has("protocol"), Headers: has("headers"), Timeout: has("timeout"),
		Compression: has("compression"), Insecure: has("insecure"), Certificate: has("certificate"),
		ClientCertificate: has("clientCertificate"), ClientKey: has("clientKey"), AuthMode: "none",
	}
	switch {
	case p.ClientCertificate && p.ClientKey:
		p.AuthMode = "mtls"
	case p.Certificate:
		p.AuthMode = "tls"
	case p.Headers:
		p.AuthMode = "headers"
	}
	if overrides {
		for _, k := range kinds {
			if has(k.name) {
				p.OverrideKinds = append(p.OverrideKinds, k.name)
			}
		}
	}
	return p
}

// Protocols of OTEL_EXPORTER_OTLP_PROTOCOL.
const (
	protoGRPC = "grpc"
	protoHTTP = "http/protobuf"
)

// check returns what cannot be used, by kind. It is left out.
func (v values) check() map[string]error {
	bad := map[string]error{}
	if s, ok := v["protocol"]; ok && s != protoGRPC && s != protoHTTP {
		bad["protocol"] = fmt.Errorf("must be %s or %s, not %q", protoGRPC, protoHTTP, s)
	}
	if s, ok := v["timeout"]; ok {
		if n, err := strconv.ParseUint(s, 10, 31); err != nil || n == 0 {
			bad["timeout"] = fmt.Errorf("must be milliseconds, not %q", s)
		}
	}
	if s, ok := v["compression"]; ok && s != "gzip" && s != "none" {
		bad["compression"] = fmt.Errorf("must be gzip or none, not %q", s)
	}
	if s, ok := v["insecure"]; ok {
		if _, err := strconv.ParseBool(s); err != nil {
			bad["insecure"] = fmt.Errorf("must be true or false, not %q", s)
		}
	}
	if s, ok := v["endpoint"]; ok {
		if u, err := url.Parse(s); (err != nil || u.Host == "" && u.Scheme != "unix") && !isHostPort(s) {
			bad["endpoint"] = fmt.Errorf("must be a URL such as http://collector:4318, not %q", s)
		}
	}
	return bad
}

func isHostPort(s string) bool {
	u, err := url.Parse("http://" + s)
	return err == nil && u.Hostname() != "" && u.Port() != "" && u.Path == ""
}

// settings say how a signal is sent. Empty fields are not set.
type settings struct {
	endpoint    string // URL, or host:port
	path        string // HTTP: of the request
	http        *bool
	headers     map[string]string
	timeout     time.Duration
	compression string
	insecure    *bool
	certificate string // files
	clientCert  string
	clientKey   string
}

// settings of variables. Those of a signal have an endpoint with the whole path.
func (v values) settings(s Signal, own bool) settings {
	bad := v.check()
	get := func(kind string) string {
		if bad[kind] != nil {
			return ""
		}
		return v[kind]
	}
	out := settings{
		endpoint: get("endpoint"), compression: get("compression"), certificate: get("certificate"),
		clientCert: get("clientCertificate"), clientKey: get("clientKey"),
	}
	if p := get("protocol"); p != "" {
		out.http = new(p == protoHTTP)
	}
	if n, err := strconv.ParseUint(get("timeout"), 10, 31); err == nil {
		out.timeout = time.Duration(n) * time.Millisecond
	}
	if b, err := strconv.ParseBool(get("insecure")); err == nil {
		out.insecure = &b
	}
	for pair := range strings.SplitSeq(get("headers"), ",") {
		k, x, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		if out.headers == nil {
			out.headers = map[string]string{}
		}
		x = strings.TrimSpace(x)
		if plain, err := url.PathUnescape(x); err == nil {
			x = plain
		}
		out.headers[strings.ToLower(strings.TrimSpace(k))] = x
	}
	if u, err := url.Parse(out.endpoint); out.endpoint != "" && err == nil && !isHostPort(out.endpoint) {
		if out.path = u.Path; own && out.path == "" {
			out.path = "/"
		}
		if !own {
			out.path = strings.TrimSuffix(u.Path, "/") + signalPath(s)
		}
	} else if out.endpoint != "" {
		out.path = signalPath(s)
	}
	return out
}

func signalPath(s Signal) string { return "/v1/" + string(s) }

// over returns what x says, and what s says where x says nothing. Endpoint and
// path belong together, and so do the client's certificate and its key.
func (s settings) over(x settings) settings {
	if x.endpoint != "" {
		s.endpoint, s.path = x.endpoint, x.path
		s.insecure = nil // it was about the other endpoint
	}
	if x.http != nil {
		s.http = x.http
	}
	if x.headers != nil {
		s.headers = x.headers
	}
	if x.timeout != 0 {
		s.timeout = x.timeout
	}
	if x.compression != "" {
		s.compression = x.compression
	}
	if x.insecure != nil {
		s.insecure = x.insecure
	}
	if x.certificate != "" {
		s.certificate = x.certificate
	}
	if x.clientCert != "" && x.clientKey != "" {
		s.clientCert, s.clientKey = x.clientCert, x.clientKey
	}
	return s
}

// target is the address of the collector and whether to use TLS, which its
// scheme decides. Without a scheme it is used unless that is said to be insecure.
func (s settings) target() (address string, secure bool) {
	if isHostPort(s.endpoint) {
		return s.endpoint, s.insecure == nil || !*s.insecure
	}
	u, err := url.Parse(s.endpoint)
	if err != nil {
		return s.endpoint, true
	}
	address = u.Host
	switch {
	case u.Scheme == "unix":
		return "unix://" + u.Path, false
	case u.Port() == "" && s.http != nil && *s.http:
		address += map[bool]string{true: ":443", false: ":80"}[u.Scheme == "https"]
	case u.Port() == "":
		address += ":4317"
	}
	return address, u.Scheme == "https"
}

// tls is nil for connections in the clear.
func (s settings) tls() (*tls.Config, error) {
	if _, secure := s.target(); !secure {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.certificate != "" {
		b, err := os.ReadFile(s.certificate)
		if err != nil {
			return nil, fmt.Errorf("certificate of the collector's CA: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, errors.New("certificate of the collector's CA: " + s.certificate + " holds no certificate in PEM form")
		}
	}
	if s.clientCert != "" {
		pair, err := tls.LoadX509KeyPair(s.clientCert, s.clientKey)
		if err != nil {
			return nil, fmt.Errorf("certificate for the collector: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
