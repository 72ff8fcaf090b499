package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/agent/otlp"
)

// bootstrapRequest is what the control plane wants to know.
type bootstrapRequest struct {
	Mesh               string            `json:"mesh"`
	Name               string            `json:"name"`
	ProxyType          string            `json:"proxyType"`
	DataplaneToken     string            `json:"dataplaneToken,omitempty"`
	DataplaneTokenPath string            `json:"dataplaneTokenPath,omitempty"`
	DataplaneResource  string            `json:"dataplaneResource,omitempty"`
	Version            versions          `json:"version"`
	CACert             string            `json:"caCert"`
	DynamicMetadata    map[string]string `json:"dynamicMetadata,omitempty"`
	OTLPEnv            *otlp.Inventory   `json:"otelEnv,omitempty"`
	DNSPort            uint32            `json:"dnsPort,omitempty"`
	ReadinessPort      uint32            `json:"readinessPort"`
	OperatingSystem    string            `json:"operatingSystem"`
	Features           []string          `json:"features"`
	Resources          struct {
		MaxHeapSizeBytes uint64 `json:"maxHeapSizeBytes"`
	} `json:"resources"`
	Workdir          string `json:"workdir"`
	MetricsResources struct {
		CertPath string `json:"certPath"`
		KeyPath  string `json:"keyPath"`
	} `json:"metricsResources"`
	SystemCAPath    string         `json:"systemCaPath"`
	DataplaneConfig map[string]any `json:"dataplaneConfig,omitempty"`
	IPv6Enabled     bool           `json:"ipv6Enabled"`
	SpireResources  struct {
		SocketPath string `json:"socketPath"`
	} `json:"spireResources"`
}

type versions struct {
	Agent Version      `json:"kumaDp"`
	Envoy envoyVersion `json:"envoy"`
}

// bootstrapAnswer is what the control plane says.
type bootstrapAnswer struct {
	Bootstrap []byte `json:"bootstrap"`
	Sidecar   struct {
		Networking struct {
			Address string `json:"address"`
		} `json:"networking"`
	} `json:"kumaSidecarConfiguration"`
}

// Features that this agent has and that shape its proxy's configuration.
const (
	featureReusePort          = "feature-reuse-port"
	featureBindOutbounds      = "feature-bind-outbounds"
	featureStrictInboundPorts = "feature-strict-inbound-ports"
	featureTransparentProxy   = "feature-transparent-proxy-in-dataplane-metadata"
	featureSpire              = "feature-spire"
	featureLogPipe            = "feature-tcp-accesslog-via-named-pipe"
	featureOTLP               = "feature-otel-via-kuma-dp"
	// featureLogDescriptor: the pipe for access logs is Envoy's descriptor 3.
	featureLogDescriptor = "atoll-access-log-descriptor"
	// featureNames: Envoy's environment has ATOLL_WORKLOAD, and the workload as
	// service.name in OTEL_RESOURCE_ATTRIBUTES.
	featureNames = "atoll-names-in-environment"
	// featureReadinessBeside: readiness is answered on the Dataplane's address
	// when that is a loopback address.
	featureReadinessBeside = "atoll-readiness-beside-dataplane"
)

func (c *Config) features() []string {
	list := []string{featureReadinessBeside, featureZoneProbes}
	for _, f := range []struct {
		on   bool
		name string
	}{
		{c.TransparentProxy != nil, featureTransparentProxy},
		{c.BindOutbounds, featureBindOutbounds},
		{c.SpireSocket != "", featureSpire},
		{c.StrictInboundPorts, featureStrictInboundPorts},
		{c.ReusePort, featureReusePort},
		{true, featureLogPipe},
		{true, featureNames},
		{runtime.GOOS == "linux", featureLogDescriptor},
		{c.OTLPPipe, featureOTLP},
	} {
		if f.on {
			list = append(list, f.name)
		}
	}
	return list
}

func (c *Config) request(doc *document, ev envoyVersion, token, tokenFile string, ca []byte, workdir string) *bootstrapRequest {
	r := &bootstrapRequest{
		Mesh: c.Mesh, Name: c.Name, ProxyType: c.ProxyType,
		DataplaneToken: token, DataplaneTokenPath: tokenFile,
		Version:         versions{Agent: c.Version, Envoy: ev},
		CACert:          string(ca),
		DynamicMetadata: c.Metadata,
		OTLPEnv:         c.otlpEnv().Inventory(),
		ReadinessPort:   c.ReadinessPort,
		OperatingSystem: runtime.GOOS,
		Features:        c.features(),
		Workdir:         workdir,
		SystemCAPath:    c.SystemCA,
		DataplaneConfig: c.TransparentProxy,
		IPv6Enabled:     c.IPv6,
	}
	if doc != nil {
		r.Mesh, r.Name, r.DataplaneResource = doc.mesh, doc.name, string(doc.json)
	}
	if r.SystemCAPath == "" {
		r.SystemCAPath = systemCA()
	}
	r.Resources.MaxHeapSizeBytes = c.MaxMemoryBytes
	if c.MaxMemoryBytes == 0 {
		r.Resources.MaxHeapSizeBytes = memoryLimit()
	}
	r.MetricsResources.CertPath, r.MetricsResources.KeyPath = c.MetricsCert, c.MetricsKey
	r.SpireResources.SocketPath = c.SpireSocket
	return r
}

// requestTimeout bounds one attempt.
const requestTimeout = 10 * time.Second

// firstRetry is the first pause, so that an agent started a moment before its
// control plane or its Dataplane does not wait long. Pauses double up to the
// configured one.
const firstRetry = 200 * time.Millisecond

// errFatal wraps answers that will not change by asking again.
var errFatal = errors.New("refused")

// fetch asks for the bootstrap document until it gets one or an answer that
// asking again would not change.
func (c *Config) fetch(ctx context.Context, r *bootstrapRequest, ca []byte) (*bootstrapAnswer, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	client, err := c.client(ca)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	end, cancel := context.WithTimeout(ctx, c.ControlPlane.RetryMax)
	defer cancel()
	pause, said := min(firstRetry, c.ControlPlane.RetryBackoff), ""
	for {
		answer, err := c.ask(end, client, body)
		if err == nil || errors.Is(err, errFatal) {
			return answer, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// A try that the end cut off says less than the one before.
		if said == "" || end.Err() == nil && err.Error() != said {
			said = err.Error()
			c.Log.Info("no bootstrap document yet; asking again", "reason", said)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-end.Done():
			t.Stop()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("gave up after %s: %s", c.ControlPlane.RetryMax, said)
		}
		pause = min(2*pause, c.ControlPlane.RetryBackoff)
	}
}

func (c *Config) client(ca []byte) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.ControlPlane.SkipVerify}
	if len(ca) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("--ca-cert-file: holds no certificate in PEM form")
		}
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment},
		Timeout:   requestTimeout,
	}, nil
}

// goNotFound is how Go's web server answers for a path it does not have.
const goNotFound = "404 page not found"

func (c *Config) ask(ctx context.Context, client *http.Client, body []byte) (*bootstrapAnswer, error) {
	address := strings.TrimSuffix(c.ControlPlane.Address, "/") + "/bootstrap"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFatal, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, explain(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("the control plane's answer broke off: %w", err)
	}
	said := strings.TrimSpace(string(text))
	switch {
	case resp.StatusCode == http.StatusOK:
		answer := &bootstrapAnswer{}
		if err := json.Unmarshal(text, answer); err != nil || len(answer.Bootstrap) == 0 {
			return nil, fmt.Errorf("%w: %s does not answer like a control plane; check --cp-address", errFatal, address)
		}
		return answer, nil
	case resp.StatusCode == http.StatusNotFound && said == "":
		return nil, errors.New("the Dataplane does not exist yet")
	case resp.StatusCode == http.StatusNotFound && said == goNotFound:
		return nil, fmt.Errorf("%w: %s is not the port for proxies of a control plane, which is 5678 unless changed; check --cp-address", errFatal, c.ControlPlane.Address)
	case resp.StatusCode >= 400 && resp.StatusCode < 500:
		return nil, fmt.Errorf("%w by the control plane (%s): %s", errFatal, resp.Status, said)
	}
	return nil, fmt.Errorf("the control plane answers %s: %s", resp.Status, said)
}

// explain says what to do about a connection that could not be made. A
// certificate that is not trusted will not be trusted by asking again.
func explain(err error) error {
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err
	}
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: %w; give the control plane's CA, or its certificate if it made that itself, with --ca-cert-file", errFatal, err)
	case errors.As(err, &hostname):
		return fmt.Errorf("%w: %w; use a name of the certificate in --cp-address", errFatal, err)
	}
	return fmt.Errorf("the control plane cannot be reached: %w", err)
}
