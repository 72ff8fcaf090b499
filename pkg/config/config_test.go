package config

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, file string, env ...string) (*Config, []string, error) {
	t.Helper()
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "conf.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(path, append(env, "HOME=/home/u"))
}

func mustLoad(t *testing.T, file string, env ...string) *Config {
	t.Helper()
	c, warnings, err := load(t, file, env...)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Fatalf("unexpected warnings: %v", warnings)
	}
	return c
}

func TestDefaultsOfModes(t *testing.T) {
	zone := mustLoad(t, "")
	if zone.Store.Type != StoreSQLite || !strings.HasSuffix(zone.Store.SQLite.Path, "/atoll/atoll.db") && os.Geteuid() != 0 {
		t.Errorf("zone store: %s %s", zone.Store.Type, zone.Store.SQLite.Path)
	}
	if !filepath.IsAbs(zone.Store.SQLite.Path) || filepath.Dir(zone.Store.SQLite.Path) != zone.General.WorkDir {
		t.Errorf("the database is not in the work dir: %s", zone.Store.SQLite.Path)
	}
	if zone.Federated() || zone.Global() {
		t.Error("a zone without global address is standalone")
	}
	if got := zone.DPServer.Authn.DPProxy.Type; got != AuthDPToken {
		t.Errorf("dpProxy authn %q", got)
	}
	if zone.BootstrapServer.Params.XDSPort != 5678 {
		t.Errorf("xds port %d", zone.BootstrapServer.Params.XDSPort)
	}
	global := mustLoad(t, "", "ATOLL_MODE=global")
	if global.Store.Type != StorePostgres || !global.Global() {
		t.Errorf("global store %s", global.Store.Type)
	}
	if got := global.Multizone.Global.KDS.Auth.Type; got != AuthZoneToken {
		t.Errorf("kds auth %q", got)
	}
}

func TestEnvironmentWinsOverFileOverDefault(t *testing.T) {
	file := `
apiServer:
  http: {port: 1001}
  https:
    port: 1002
meshService: {deletionGracePeriod: 3m}
defaults: {SkipHostnameGenerators: true}
`
	c := mustLoad(t, file, "ATOLL_API_SERVER_HTTP_PORT=2001")
	if c.APIServer.HTTP.Port != 2001 || c.APIServer.HTTPS.Port != 1002 || c.Diagnostics.ServerPort != 5680 {
		t.Errorf("ports %d %d %d", c.APIServer.HTTP.Port, c.APIServer.HTTPS.Port, c.Diagnostics.ServerPort)
	}
	if c.MeshService.DeletionGracePeriod.Duration != 3*time.Minute {
		t.Errorf("duration %s", c.MeshService.DeletionGracePeriod)
	}
	if !c.Defaults.SkipHostnameGenerators {
		t.Error("the reference's spelling of a key was not read")
	}
}

// Every variable that the reference documents has its name here.
func TestVariables(t *testing.T) {
	for _, tc := range []struct {
		env string
		got func(*Config) any
	}{
		{"STORE_TYPE=memory", func(c *Config) any { return c.Store.Type }},
		{"STORE_SQLITE_PATH=/x/y.db", func(c *Config) any { return c.Store.SQLite.Path }},
		{"STORE_POSTGRES_DB_NAME=n", func(c *Config) any { return c.Store.Postgres.DBName }},
		{"STORE_POSTGRES_TLS_CA_PATH=n", func(c *Config) any { return c.Store.Postgres.TLS.CAPath }},
		{"STORE_POSTGRES_TLS_ROOT_CERT_PATH=n", func(c *Config) any { return c.Store.Postgres.TLS.CAPath }},
		{"STORE_POSTGRES_TLS_DISABLE_SSLSNI=true", func(c *Config) any { return c.Store.Postgres.TLS.DisableSSLSNI }},
		{"STORE_UNSAFE_DELETE=true", func(c *Config) any { return c.Store.UnsafeDelete }},
		{"API_SERVER_CORS_ALLOWED_DOMAINS=a,b", func(c *Config) any { return strings.Join(c.APIServer.CORSAllowedDomains, ",") }},
		{"API_SERVER_AUTHN_LOCALHOST_IS_ADMIN=false", func(c *Config) any { return c.APIServer.Authn.LocalhostIsAdmin }},
		{"API_SERVER_HTTPS_TLS_CA_FILE=n", func(c *Config) any { return c.APIServer.HTTPS.CAFile }},
		{"API_SERVER_HTTPS_CLIENT_CERTS_CA_FILE=n", func(c *Config) any { return c.APIServer.HTTPS.CAFile }},
		{"API_SERVER_GUI_BASE_PATH=/ui", func(c *Config) any { return c.APIServer.GUI.BasePath }},
		{"ACCESS_STATIC_ADMIN_RESOURCES_USERS=a,b", func(c *Config) any { return strings.Join(c.Access.Static.AdminResources.Users, ",") }},
		{"ACCESS_STATIC_GENERATE_DP_TOKEN_GROUPS=a", func(c *Config) any { return c.Access.Static.GenerateDPToken.Groups[0] }},
		{"ACCESS_STATIC_GET_CONFIG_DUMP_GROUPS=a", func(c *Config) any { return c.Access.Static.ViewConfigDump.Groups[0] }},
		{"MULTIZONE_GLOBAL_KDS_GRPC_PORT=1", func(c *Config) any { return c.Multizone.Global.KDS.GRPCPort }},
		{"MULTIZONE_GLOBAL_KDS_TLS_ENABLED=false", func(c *Config) any { return c.Multizone.Global.KDS.TLSEnabled }},
		{"MULTIZONE_GLOBAL_KDS_AUTH_TYPE=none", func(c *Config) any { return c.Multizone.Global.KDS.Auth.Type }},
		{"MULTIZONE_ZONE_NAME=east", func(c *Config) any { return c.Multizone.Zone.Name }},
		{"MULTIZONE_ZONE_GLOBAL_ADDRESS=grpcs://g:1", func(c *Config) any { return c.Multizone.Zone.GlobalAddress }},
		{"MULTIZONE_ZONE_KDS_ROOT_CA_FILE=n", func(c *Config) any { return c.Multizone.Zone.KDS.RootCAFile }},
		{"MULTIZONE_ZONE_KDS_AUTH_CP_TOKEN_PATH=n", func(c *Config) any { return c.Multizone.Zone.KDS.Auth.CPTokenPath }},
		{"DP_SERVER_AUTHN_DP_PROXY_TYPE=none", func(c *Config) any { return c.DPServer.Authn.DPProxy.Type }},
		{"XDS_DATAPLANE_DEREGISTRATION_DELAY=3s", func(c *Config) any { return c.XDSServer.DataplaneDeregistrationDelay.String() }},
		{"XDS_SERVER_DATAPLANE_STATUS_FLUSH_INTERVAL=3s", func(c *Config) any { return c.XDSServer.DataplaneStatusFlushInterval.String() }},
		{"BOOTSTRAP_SERVER_PARAMS_XDS_GRPC_MAX_RECEIVE_MESSAGE_BYTES=7", func(c *Config) any { return c.BootstrapServer.Params.XDSGRPCMaxReceiveMessageSize }},
		{"DNS_SERVER_SERVICE_VIP_PORT=81", func(c *Config) any { return c.DNSServer.ServiceVIPPort }},
		{"IPAM_MESH_SERVICE_CIDR=241.1.0.0/16", func(c *Config) any { return c.IPAM.MeshService.CIDR }},
		{"IPAM_KNOWN_INTERNAL_CIDRS=10.0.0.0/8", func(c *Config) any { return c.IPAM.KnownInternalCIDRs[0] }},
		{"MESH_SERVICE_DELETION_GRACE_PERIOD=3s", func(c *Config) any { return c.MeshService.DeletionGracePeriod.String() }},
		{"PLUGIN_POLICIES_ENABLED=meshtimeouts", func(c *Config) any { return c.Policies.PluginPoliciesEnabled[0] }},
		{"CORE_RESOURCES_ENABLED=workloads", func(c *Config) any { return c.CoreResources.Enabled[0] }},
		{"DEFAULTS_SKIP_MESH_CREATION=true", func(c *Config) any { return c.Defaults.SkipMeshCreation }},
		{"RUNTIME_UNIVERSAL_DATAPLANE_CLEANUP_AGE=3h0m0s", func(c *Config) any { return c.Runtime.Universal.DataplaneCleanupAge.String() }},
		{"DIAGNOSTICS_SERVER_PORT=9", func(c *Config) any { return c.Diagnostics.ServerPort }},
		{"INTER_CP_SERVER_PORT=9", func(c *Config) any { return c.InterCP.Server.Port }},
		{"GENERAL_WORK_DIR=/w", func(c *Config) any { return c.General.WorkDir }},
		{"LOG_LEVEL=debug", func(c *Config) any { return c.Log.Level }},
	} {
		c, _, err := load(t, "", Prefix+tc.env) // some have no effect, and say so
		if err != nil {
			t.Fatal(err)
		}
		_, want, _ := strings.Cut(tc.env, "=")
		if got := tc.got(c); asText(got) != want {
			t.Errorf("%s: got %v", tc.env, got)
		}
	}
}

func asText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func TestWarnings(t *testing.T) {
	file := "apiServer:\n  htpp: {port: 1}\nstore:\n  cache: {enabled: false}\n"
	_, warnings, err := load(t, file, "ATOLL_STORE_TPYE=memory", "ATOLL_SERVER=http://x")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(warnings, "\n")
	for _, want := range []string{
		"apiServer.htpp (line 2) is not a setting", "store.cache (line 4) has no effect: reads come from", "ATOLL_STORE_TPYE",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning with %q in\n%s", want, all)
		}
	}
	if strings.Contains(all, "ATOLL_SERVER") {
		t.Error("a variable of another tool is not ours to warn about")
	}
}

// Settings that are in the tree for tools of the reference, and that nothing reads,
// are no surprise to whoever sets them.
func TestWarningsOfSettingsThatNothingReads(t *testing.T) {
	file := "policies: {pluginPoliciesEnabled: [meshtimeouts]}\nmetrics: {dataplane: {subscriptionLimit: 9}}\napiServer: {gui: {enabled: true}}\n"
	_, warnings, err := load(t, file, "ATOLL_DNS_SERVER_DOMAIN=mesh.example", "ATOLL_LOG_LEVEL=debug")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"dnsServer.domain has no effect", "policies.pluginPoliciesEnabled has no effect", "metrics.dataplane.subscriptionLimit has no effect"}
	if len(warnings) != len(want) { // the GUI is as it is by default
		t.Errorf("%q", warnings)
	}
	for i, w := range warnings {
		if i < len(want) && !strings.HasPrefix(w, want[i]) {
			t.Errorf("%q, want %q", w, want[i])
		}
	}
}

func TestErrorsNameTheSetting(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		env  []string
		want []string
	}{
		"wrong types": {
			file: "apiServer:\n  http: {port: many}\n  readTimeout: 10\n  basePath: [a]\ngeneral: 1\n",
			want: []string{"apiServer.basePath", "apiServer.http.port", "apiServer.readTimeout", "general"},
		},
		"wrong variable": {env: []string{"ATOLL_DEFAULTS_SKIP_MESH_CREATION=maybe"}, want: []string{"defaults.skipMeshCreation"}},
		"semantics": {
			env: []string{"ATOLL_MODE=global", "ATOLL_ENVIRONMENT=kubernetes", "ATOLL_STORE_TYPE=kubernetes",
				"ATOLL_GENERAL_TLS_CERT_FILE=x", "ATOLL_GENERAL_TLS_MIN_VERSION=TLSv9", "ATOLL_API_SERVER_HTTP_PORT=70000"},
			want: []string{"apiServer.http.port", "environment", "general.tlsKeyFile", "general.tlsMinVersion", "store.type"},
		},
		"zone": {
			env:  []string{"ATOLL_MULTIZONE_ZONE_NAME=East", "ATOLL_MULTIZONE_ZONE_GLOBAL_ADDRESS=http://x", "ATOLL_IPAM_MESH_SERVICE_CIDR=x"},
			want: []string{"ipam.meshService.cidr", "multizone.zone.globalAddress", "multizone.zone.name"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(t, tc.file, tc.env...)
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("got %v", err)
			}
			var got []string
			for _, e := range errs {
				got = append(got, e.Path)
			}
			slices.Sort(got)
			for _, want := range tc.want {
				if !slices.Contains(got, want) {
					t.Errorf("no error at %s in %v", want, err)
				}
			}
		})
	}
}

func TestMaskedHidesSecrets(t *testing.T) {
	c := mustLoad(t, `
store: {type: postgres, postgres: {password: hunter2}}
apiServer: {authn: {tokens: {validator: {publicKeys: [{kid: "1", key: PEMPEM}]}}}}
multizone: {zone: {kds: {auth: {cpTokenInline: JWTJWT}}}}
`)
	got := string(c.Masked())
	for _, secret := range []string{"hunter2", "PEMPEM", "JWTJWT"} {
		if strings.Contains(got, secret) {
			t.Errorf("%s is visible", secret)
		}
	}
	if !strings.Contains(got, `"password":"*****"`) || !strings.Contains(got, `"readTimeout":"10s"`) {
		t.Error(got)
	}
}

func TestCertificateIsMadeKeptAndReloaded(t *testing.T) {
	dir := t.TempDir()
	c := mustLoad(t, "", "ATOLL_GENERAL_WORK_DIR="+dir)
	if err := c.EnsureCertificate(); err != nil {
		t.Fatal(err)
	}
	first, _ := os.ReadFile(c.DPServer.CertFile)
	again := mustLoad(t, "", "ATOLL_GENERAL_WORK_DIR="+dir)
	if err := again.EnsureCertificate(); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(again.DPServer.CertFile); string(first) != string(second) {
		t.Error("the certificate was made twice")
	}
	if info, _ := os.Stat(c.DPServer.KeyFile); info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %s", info.Mode())
	}
	conf, err := c.APIServer.HTTPS.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	go srv.Serve(ln)
	defer srv.Close()
	serial := func() string {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	if err := makeCertificate(c.DPServer.CertFile, c.DPServer.KeyFile, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if serial() == before {
		t.Error("a replaced certificate was not taken")
	}
	if err := os.WriteFile(c.DPServer.CertFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	serial() // the previous certificate still serves
}

func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	c := mustLoad(t, "", "ATOLL_GENERAL_WORK_DIR="+dir)
	if err := c.EnsureCertificate(); err != nil {
		t.Fatal(err)
	}
	h := c.APIServer.HTTPS
	h.CAFile, h.RequireClientCert = h.CertFile, true
	if conf, err := h.ServerTLS(); err != nil || conf.ClientAuth != tls.RequireAndVerifyClientCert || conf.ClientCAs == nil {
		t.Errorf("%v %v", conf, err)
	}
	h.CAFile = h.KeyFile
	if _, err := h.ServerTLS(); err == nil {
		t.Error("a file without certificate was accepted")
	}
	if _, _, err := load(t, "", "ATOLL_API_SERVER_HTTPS_REQUIRE_CLIENT_CERT=true"); err == nil {
		t.Error("client certificates without a CA were accepted")
	}
}
