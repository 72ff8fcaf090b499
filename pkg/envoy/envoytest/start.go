package envoytest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// Start runs an Envoy that takes everything from the ADS server at host:port,
// in plain text, as the node of that id, until the test ends. Its log is shown
// if the test fails. It drains as under the agent, and what it writes to files is
// there at once. stat returns one
// of its counters and gauges, 0 as long as there is none of the name.
func Start(t testing.TB, node, host string, port int) (stat func(name string) int) {
	t.Helper()
	bin := Binary(t)
	dir := t.TempDir()
	file, admin := filepath.Join(dir, "bootstrap.yaml"), filepath.Join(dir, "admin")
	if err := os.WriteFile(file, fmt.Appendf(nil, bootstrapYAML, node, host, port), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-c", file, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn",
		"--drain-strategy", "immediate", "--file-flush-interval-msec", "20", "--admin-address-path", admin)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Envoy %s:\n%s", node, log.Bytes())
		}
	})
	return func(name string) int {
		t.Helper()
		address, err := os.ReadFile(admin)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get("http://" + string(address) + "/stats?filter=" + url.QueryEscape("^"+regexp.QuoteMeta(name)+"$"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		n := 0
		_, _ = fmt.Fscanf(resp.Body, name+": %d", &n)
		return n
	}
}

const bootstrapYAML = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
node: {id: %q, cluster: test, metadata: {atoll.source: tested, atoll.address: 127.0.0.1}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{envoy_grpc: {cluster_name: ads}}]
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
  cds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
static_resources:
  clusters:
  - name: ads
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: ads
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %d}}}}]}]
`
