package config

import (
	"os"
	"path/filepath"
	"time"
)

// Default returns the tree before a file or the environment is read. Values
// that depend on others, such as the store of a mode, are still empty.
func Default() *Config {
	d := func(v time.Duration) Duration { return Duration{v} }
	admins := Grant{Users: []string{"mesh-system:admin"}, Groups: []string{"mesh-system:admin"}}
	everybody := Grant{Users: []string{}, Groups: []string{"mesh-system:unauthenticated", "mesh-system:authenticated"}}
	validator := Validator{UseSecrets: true, PublicKeys: []PublicKey{}}
	return &Config{
		Mode:        ModeZone,
		Environment: Universal,
		General: General{
			TLS:                           TLS{MinVersion: "TLSv1_2", CipherSuites: []string{}},
			ResilientComponentBaseBackoff: d(5 * time.Second),
			ResilientComponentMaxBackoff:  d(time.Minute),
		},
		Log: Log{Level: "info", Format: "text"},
		Store: Store{
			SQLite: SQLite{Path: "atoll.db"},
			Postgres: Postgres{
				Host: "127.0.0.1", Port: 15432, User: "kuma", Password: "kuma", DBName: "kuma",
				ConnectionTimeout: 5, MaxOpenConnections: 50,
				MaxConnectionIdleTime: d(30 * time.Minute), MaxConnectionLifetime: d(time.Hour),
				MaxConnectionLifetimeJitter: d(time.Minute), HealthCheckInterval: d(30 * time.Second),
				TLS: PostgresTLS{Mode: "disable"},
			},
			Kubernetes: KubernetesStore{SystemNamespace: "kuma-system"},
			History:    History{Revisions: 10_000, Age: d(30 * 24 * time.Hour)},
			Encryption: Encryption{Generate: true},
		},
		APIServer: APIServer{
			CORSAllowedDomains: []string{},
			BasePath:           "/",
			HTTP:               Listener{Enabled: true, Interface: "0.0.0.0", Port: 5681},
			HTTPS:              HTTPS{Listener: Listener{Enabled: true, Interface: "0.0.0.0", Port: 5682}},
			Authn: APIAuthn{
				Type: AuthTokens, LocalhostIsAdmin: true,
				Tokens: APITokens{BootstrapAdminToken: true, EnableIssuer: true, Validator: validator},
			},
			GUI:               GUI{Enabled: true, BasePath: "/gui"},
			ReadHeaderTimeout: d(time.Second), ReadTimeout: d(10 * time.Second),
			WriteTimeout: d(30 * time.Second), IdleTimeout: d(2 * time.Minute),
			MaxBodyBytes: 5 << 20, MaxConcurrentRequests: 1000,
		},
		Access: Access{
			Type:      "static",
			Anonymous: AnonymousNone,
			Roles:     []RoleBinding{},
			Audit:     Audit{TokenUse: d(time.Hour)},
			Static: Static{
				AdminResources: admins, GenerateDPToken: admins, GenerateUserToken: admins, GenerateZoneToken: admins,
				ViewConfigDump: everybody, ViewStats: everybody, ViewClusters: everybody, ControlPlaneMetadata: everybody,
			},
		},
		Multizone: Multizone{
			Global: MultizoneGlobal{KDS: GlobalKDS{
				GRPCPort: 5685, TLSEnabled: true,
				ZoneInsightFlushInterval: d(10 * time.Second), MaxMsgSize: 10 << 20,
				Auth: GlobalKDSAuth{Type: AuthZoneToken},
			}},
			Zone: MultizoneZone{Name: "default", KDS: ZoneKDS{MaxMsgSize: 10 << 20}},
		},
		DPServer: DPServer{
			Port:              5678,
			ReadHeaderTimeout: d(5 * time.Second), GracefulShutdownTimeout: d(10 * time.Second),
			Authn: DPAuthn{
				DPProxy:   DPProxyAuthn{DPToken: TokenAuth{EnableIssuer: true, Validator: validator}},
				ZoneProxy: ZoneProxyAuthn{ZoneToken: TokenAuth{EnableIssuer: true, Validator: validator}},
			},
		},
		XDSServer: XDSServer{
			DataplaneStatusFlushInterval: d(10 * time.Second),
			DataplaneDeregistrationDelay: d(10 * time.Second),
		},
		BootstrapServer: BootstrapServer{Params: BootstrapParams{
			AdminAddress: "127.0.0.1", AdminPort: 9901, EnvoyAdminUnixSocket: true, ReadinessPort: 9902,
			AdminAccessLogPath: "/dev/null", XDSConnectTimeout: d(time.Second), XDSGRPCMaxReceiveMessageSize: 4 << 20,
		}},
		DNSServer: DNSServer{Domain: "mesh", ServiceVIPPort: 80},
		IPAM: IPAM{
			MeshService:          CIDR{"241.0.0.0/8"},
			MeshExternalService:  CIDR{"242.0.0.0/8"},
			MeshMultiZoneService: CIDR{"243.0.0.0/8"},
			KnownInternalCIDRs: []string{
				"10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12", "fc00::/7", "fd00::/8", "127.0.0.1/32", "::1/128",
			},
		},
		MeshService: MeshService{
			DeletionGracePeriod: d(time.Hour),
			LabelPropagation:    LabelPropagation{AllowedLabelKeys: []string{}},
		},
		CoreResources: CoreResources{Enabled: []string{}},
		Policies:      Policies{PluginPoliciesEnabled: []string{}},
		Metrics: Metrics{
			Dataplane:    InsightMetrics{SubscriptionLimit: 2, IdleTimeout: d(5 * time.Minute)},
			Zone:         InsightMetrics{SubscriptionLimit: 10, IdleTimeout: d(5 * time.Minute)},
			ControlPlane: ControlPlaneMetrics{ReportResourcesCount: true},
		},
		Diagnostics: Diagnostics{ServerPort: 5680},
		MonitoringAssignmentServer: MonitoringAssignmentServer{
			Enabled: true, Port: 5676, DefaultFetchTimeout: d(30 * time.Second), APIVersions: []string{"v1"},
		},
		Runtime: Runtime{Universal: UniversalRuntime{
			DataplaneCleanupAge: d(72 * time.Hour),
			Spire:               Spire{SocketPath: "/tmp/spire-agent/public/api.sock"},
		}},
		InterCP: InterCP{Server: InterCPServer{Port: 5683}},
	}
}

// complete fills in what depends on other settings.
func (c *Config) complete(getenv func(string) string) {
	if c.General.WorkDir == "" {
		c.General.WorkDir = DataDir(getenv)
	}
	if c.Store.Type == "" {
		switch {
		case c.Environment == Kubernetes:
			c.Store.Type = StoreKubernetes
		case c.Global():
			c.Store.Type = StorePostgres
		default:
			c.Store.Type = StoreSQLite
		}
	}
	if p := c.Store.SQLite.Path; p != "" && !filepath.IsAbs(p) {
		c.Store.SQLite.Path = filepath.Join(c.General.WorkDir, p)
	}
	if c.DPServer.Authn.DPProxy.Type == "" {
		c.DPServer.Authn.DPProxy.Type = AuthDPToken
		if c.Environment == Kubernetes {
			c.DPServer.Authn.DPProxy.Type = AuthServiceAccountToken
		}
	}
	if c.DPServer.Authn.ZoneProxy.Type == "" {
		c.DPServer.Authn.ZoneProxy.Type = AuthZoneToken
		if c.Environment == Kubernetes {
			c.DPServer.Authn.ZoneProxy.Type = AuthServiceAccountToken
		}
	}
	if c.BootstrapServer.Params.XDSPort == 0 {
		c.BootstrapServer.Params.XDSPort = c.DPServer.Port
	}
	for _, t := range c.serverTLS() {
		if t.CertFile == "" && t.KeyFile == "" {
			t.CertFile, t.KeyFile = c.General.CertFile, c.General.KeyFile
		}
		if t.MinVersion == "" {
			t.MinVersion = c.General.MinVersion
		}
		if t.MaxVersion == "" {
			t.MaxVersion = c.General.MaxVersion
		}
		if len(t.CipherSuites) == 0 {
			t.CipherSuites = c.General.CipherSuites
		}
	}
}

func (c *Config) serverTLS() []*TLS {
	return []*TLS{&c.APIServer.HTTPS.TLS, &c.Multizone.Global.KDS.TLS, &c.DPServer.TLS, &c.Diagnostics.TLS, &c.MonitoringAssignmentServer.TLS}
}

// DataDir is the default folder for durable data: /var/lib/atoll as root, else
// atoll in the user's data folder. getenv is os.Getenv outside tests.
func DataDir(getenv func(string) string) string {
	if os.Geteuid() == 0 {
		return "/var/lib/atoll"
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "atoll")
	}
	return filepath.Join(getenv("HOME"), ".local", "share", "atoll")
}
