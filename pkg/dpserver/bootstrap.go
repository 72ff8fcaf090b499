package dpserver

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// BootstrapParams are the settings of bootstrapServer.params.
type BootstrapParams struct {
	AdminAddress       string // of Envoy's admin, when that is TCP; default 127.0.0.1
	AdminPort          uint32 // default 9901
	AdminTCP           bool   // admin on TCP and not on a unix socket
	AdminAccessLogPath string // default /dev/null
	ReadinessPort      uint32 // of agents that state none; default 9902
	XDSHost            string // default: the host that the agent asked
	XDSPort            uint32 // default: the port of this server
	XDSConnectTimeout  string // default 1s, as Envoy reads it
	XDSMaxMessageBytes uint32 // default 4194304
	HDS                bool   // let Envoy ask for health checks
}

func (p *BootstrapParams) setDefaults() {
	setDefault(&p.AdminAddress, "127.0.0.1")
	setDefault(&p.AdminPort, 9901)
	setDefault(&p.AdminAccessLogPath, "/dev/null")
	setDefault(&p.ReadinessPort, 9902)
	setDefault(&p.XDSConnectTimeout, "1s")
	setDefault(&p.XDSMaxMessageBytes, 4194304)
}

// maxBootstrapBody bounds the request; a Dataplane is a few kilobytes.
const maxBootstrapBody = 5 << 20

// bootstrapRequest is what an agent says to get its bootstrap document.
type bootstrapRequest struct {
	Mesh               string            `json:"mesh"`
	Name               string            `json:"name"`
	ProxyType          string            `json:"proxyType"`
	DataplaneToken     string            `json:"dataplaneToken"`
	DataplaneTokenPath string            `json:"dataplaneTokenPath"`
	DataplaneResource  string            `json:"dataplaneResource"`
	Version            json.RawMessage   `json:"version"`
	CACert             string            `json:"caCert"`
	DynamicMetadata    map[string]string `json:"dynamicMetadata"`
	OtelEnv            json.RawMessage   `json:"otelEnv"`
	DNSPort            uint32            `json:"dnsPort"`
	ReadinessPort      uint32            `json:"readinessPort"`
	// AppProbeProxyDisabled is true when the probe proxy is on: the name has been
	// wrong for so long that it cannot be changed.
	AppProbeProxyDisabled bool     `json:"appProbeProxyDisabled"`
	OperatingSystem       string   `json:"operatingSystem"`
	Features              []string `json:"features"`
	Workdir               string   `json:"workdir"`
	MetricsResources      struct {
		CertPath string `json:"certPath"`
		KeyPath  string `json:"keyPath"`
	} `json:"metricsResources"`
	SystemCAPath    string          `json:"systemCaPath"`
	DataplaneConfig json.RawMessage `json:"dataplaneConfig"`
	IPv6Enabled     bool            `json:"ipv6Enabled"`
	SpireResources  struct {
		SocketPath string `json:"socketPath"`
	} `json:"spireResources"`
}

// bootstrapAnswer is the answer to agents that ask for JSON.
type bootstrapAnswer struct {
	Bootstrap []byte `json:"bootstrap"` // YAML
	Sidecar   struct {
		Networking struct {
			Address string `json:"address"`
		} `json:"networking"`
		Metrics struct {
			Aggregate []struct{} `json:"aggregate"`
		} `json:"metrics"`
	} `json:"kumaSidecarConfiguration"`
}

// refusal is an answer other than success.
type refusal struct {
	status int
	text   string // empty: no body
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

func (s *Server) serveBootstrap(w http.ResponseWriter, r *http.Request) {
	answer, err := s.bootstrap(w, r)
	if err != nil {
		var no *refusal
		if !errors.As(err, &no) {
			s.log.Error("a bootstrap document could not be made", "error", err)
			no = &refusal{http.StatusInternalServerError, "the bootstrap document could not be made; the control plane's log says why"}
		}
		if no.text != "" {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		}
		w.WriteHeader(no.status)
		io.WriteString(w, no.text)
		return
	}
	if r.Header.Get("Accept") == "application/json" {
		w.Header().Set("Content-Type", "application/json")
		b, err := json.Marshal(answer)
		if err == nil {
			w.Write(b)
		}
		return
	}
	w.Header().Set("Content-Type", "text/x-yaml")
	w.Write(answer.Bootstrap)
}

func (s *Server) bootstrap(w http.ResponseWriter, r *http.Request) (*bootstrapAnswer, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBootstrapBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, refuse(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes", large.Limit)
		}
		return nil, refuse(http.StatusBadRequest, "the request could not be read: %v", err)
	}
	var req bootstrapRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, refuse(http.StatusBadRequest, "the request is not valid JSON: %v", err)
	}
	if req.ProxyType != "" && req.ProxyType != proxyTypeDataplane {
		return nil, refuse(http.StatusBadRequest, "proxyType: %q is not supported; only %q is", req.ProxyType, proxyTypeDataplane)
	}
	if s.cfg.Authenticate != nil && req.DataplaneToken == "" && req.DataplaneTokenPath == "" {
		return nil, refuse(http.StatusUnprocessableEntity,
			"dataplaneToken: a token is required; make one with `atollctl generate dataplane-token` and pass it with --dataplane-token-file")
	}
	cert, err := s.certs.load()
	if err != nil {
		return nil, err
	}
	host := s.cfg.Bootstrap.XDSHost
	if host == "" {
		if host, err = hostInCertificate(r.Host, cert.leaf); err != nil {
			return nil, err
		}
	}
	ca := []byte(req.CACert)
	if len(ca) == 0 {
		if cert.leaf.BasicConstraintsValid && !cert.leaf.IsCA {
			return nil, refuse(http.StatusBadRequest,
				"the control plane's certificate is signed by a CA that it does not know; give the agent that CA with --ca-cert-file")
		}
		ca = cert.pem
	}
	dp, err := s.bootstrapDataplane(&req)
	if err != nil {
		return nil, err
	}
	metadata, err := nodeMetadata(&req, dp, &s.cfg.Bootstrap)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	doc := document{
		params: &s.cfg.Bootstrap, host: host, ca: ca, metadata: metadata,
		id: req.Mesh + "." + req.Name, cluster: workloadOf(dp),
		logSocket: logSocket(&req), workdir: req.Workdir,
		adminPort: adminPort(dp, &s.cfg.Bootstrap), probes: dp != nil && probed(dp),
		v4Only: v4Only(r.Context(), host),
		token:  req.DataplaneToken,
	}
	if s.cfg.ReloadableTokens {
		doc.tokenFile = req.DataplaneTokenPath
	}
	answer := &bootstrapAnswer{}
	answer.Sidecar.Networking.Address = kind.NetworkingOf(dp).GetAddress()
	if answer.Bootstrap, err = doc.yaml(); err != nil {
		return nil, err
	}
	return answer, nil
}

// hostInCertificate returns the host of a request when the certificate is valid
// for it, so that a proxy which checks it will be able to connect.
func hostInCertificate(hostport string, leaf *x509.Certificate) (string, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if leaf.VerifyHostname(host) != nil {
		return "", refuse(http.StatusBadRequest,
			"the control plane's certificate is not valid for %q, only for %v %v; use one of these names in --cp-address, or set bootstrapServer.params.xdsHost",
			host, leaf.DNSNames, leaf.IPAddresses)
	}
	return host, nil
}

// bootstrapDataplane returns the Dataplane that the agent sent, or the one that
// is stored. The agent's is kept only when its proxy connects with a token.
func (s *Server) bootstrapDataplane(req *bootstrapRequest) (*resource.Object, error) {
	snap := s.cfg.View.Snapshot()
	if req.DataplaneResource == "" {
		dp := snap.Get(resource.ID{Type: kind.Dataplane, Mesh: req.Mesh, Name: req.Name})
		if dp == nil {
			return nil, &refusal{status: http.StatusNotFound} // the agent asks again
		}
		return dp, nil
	}
	dp, err := s.decodeDataplane([]byte(req.DataplaneResource))
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "%v", err)
	}
	var errs resource.FieldErrors
	if req.Mesh == "" && req.Name == "" {
		req.Mesh, req.Name = dp.Mesh, dp.Name
	}
	if dp.Mesh != req.Mesh {
		errs.Add("mesh", "is %q in the Dataplane and %q in the request", dp.Mesh, req.Mesh)
	}
	if dp.Name != req.Name {
		errs.Add("name", "is %q in the Dataplane and %q in the request", dp.Name, req.Name)
	}
	redirected, err := redirects(req.DataplaneConfig)
	if err != nil {
		return nil, err
	}
	if redirected && len(kind.NetworkingOf(dp).GetOutbound()) > 0 {
		errs.Add("outbound", "must be empty when traffic is redirected to the proxy")
	}
	if snap.Get(resource.ID{Type: kind.Mesh, Name: dp.Mesh}) == nil {
		errs.Add("mesh", "mesh %q does not exist; create it first", dp.Mesh)
	}
	if err := errs.Err(); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "%v", err)
	}
	return s.cfg.Site.Admit(dp, nil) // labels as they will be stored
}

// redirects tells whether an agent's configuration redirects any traffic.
func redirects(config json.RawMessage) (bool, error) {
	if len(config) == 0 {
		return false, nil
	}
	s := &structpb.Struct{}
	if err := protojson.Unmarshal(config, s); err != nil {
		return false, refuse(http.StatusBadRequest, "dataplaneConfig: %v", err)
	}
	r := redirection(s)
	return r.InboundPort != 0 || r.OutboundPort != 0, nil
}

// decodeDataplane reads and checks a Dataplane that a proxy brought.
func (s *Server) decodeDataplane(b []byte) (*resource.Object, error) {
	k := s.cfg.Kinds.ByType(kind.Dataplane)
	dp, err := k.DecodeJSON(b)
	if err != nil {
		return nil, fmt.Errorf("the Dataplane sent by the agent: %w", err)
	}
	var errs resource.FieldErrors
	if dp.Type != "" && dp.Type != kind.Dataplane {
		errs.Add("type", "must be Dataplane and not %s", dp.Type)
		return nil, errs
	}
	if dp.Mesh == "" {
		errs.Add("mesh", "must be set")
	}
	if !resource.IsDNS1123Subdomain(dp.Name) {
		errs.Add("name", "must be a DNS name: lower case letters, digits, '-' and '.', at most 253")
	}
	if k.Validate != nil {
		errs = append(errs, k.Validate(dp)...)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return dp, nil
}

func workloadOf(dp *resource.Object) string {
	if w := dp.Labels[resource.LabelWorkload]; w != "" {
		return w
	}
	return "unknown"
}

func adminPort(dp *resource.Object, p *BootstrapParams) uint32 {
	if n := kind.NetworkingOf(dp).GetAdmin().GetPort(); n != 0 {
		return n
	}
	return p.AdminPort
}

// nodeMetadata is what Envoy will repeat on its streams.
func nodeMetadata(req *bootstrapRequest, dp *resource.Object, p *BootstrapParams) (*structpb.Struct, error) {
	m := map[string]any{
		keyFeatures:      list(req.Features),
		keyWorkdir:       req.Workdir,
		keyMetricsCert:   req.MetricsResources.CertPath,
		keyMetricsKey:    req.MetricsResources.KeyPath,
		keySystemCA:      req.SystemCAPath,
		keyIPv6:          req.IPv6Enabled,
		keySpireSocket:   req.SpireResources.SocketPath,
		keyProxyType:     proxyTypeDataplane,
		keyAdminPort:     fmt.Sprint(adminPort(dp, p)),
		keyReadinessPort: fmt.Sprint(readinessPort(req, p)),
	}
	for k, v := range nodeFacts(dp) {
		m[k] = v
	}
	if req.DataplaneResource != "" {
		m[keyResource] = req.DataplaneResource
	}
	if socket := adminSocket(req.Workdir, p); socket != "" {
		m[keyAdminSocket] = socket
	} else {
		m[keyAdminAddress] = p.AdminAddress
	}
	if req.DNSPort != 0 {
		m[keyDNSPort] = fmt.Sprint(req.DNSPort)
	}
	if req.AppProbeProxyDisabled {
		m[keyAppProbeProxy] = "true"
	}
	if len(req.DynamicMetadata) > 0 {
		d := map[string]any{}
		for k, v := range req.DynamicMetadata {
			d[k] = v
		}
		m[keyDynamicMetadata] = d
	}
	for key, raw := range map[string]json.RawMessage{
		keyVersion: req.Version, keyTransparentProxy: req.DataplaneConfig, keyOtelEnv: req.OtelEnv,
	} {
		var v map[string]any
		if len(raw) == 0 {
			continue
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if v != nil {
			m[key] = v
		}
	}
	return structpb.NewStruct(m)
}

func readinessPort(req *bootstrapRequest, p *BootstrapParams) uint32 {
	if req.ReadinessPort != 0 {
		return req.ReadinessPort
	}
	return p.ReadinessPort
}

func list(in []string) []any {
	out := make([]any, len(in))
	for i, v := range in {
		out[i] = v
	}
	return out
}

// v4Only tells whether a host name has IPv4 addresses only, so that Envoy need
// not ask for others.
func v4Only(ctx context.Context, host string) bool {
	if host == "localhost" || net.ParseIP(host) != nil {
		return false
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		if ip.To4() == nil {
			return false
		}
	}
	return true
}
