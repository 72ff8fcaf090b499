// Package config holds the settings of a control plane: one typed tree with its
// defaults, filled from a file and the environment. The keys are those users of
// Kuma know; the variables have the prefix ATOLL_.
package config

import (
	"encoding/json"
	"fmt"
	"time"
)

// Modes of a control plane.
const (
	ModeZone   = "zone"
	ModeGlobal = "global"
)

// Environments of a control plane.
const (
	Universal  = "universal"
	Kubernetes = "kubernetes"
)

// Types of stores.
const (
	StoreSQLite     = "sqlite"
	StorePostgres   = "postgres"
	StoreKubernetes = "kubernetes"
	StoreMemory     = "memory"
)

// Types of authentication.
const (
	AuthTokens              = "tokens"
	AuthNone                = "none"
	AuthDPToken             = "dpToken"
	AuthZoneToken           = "zoneToken"
	AuthServiceAccountToken = "serviceAccountToken"
)

// What anonymous callers from elsewhere than localhost may do, besides reading
// the entry page, health and the GUI's files.
const (
	AnonymousNone  = "none"
	AnonymousRead  = "read"
	AnonymousWrite = "write"
)

// Duration is a time.Duration written the way of Go: 1m30s.
type Duration struct{ time.Duration }

// MarshalJSON writes the duration as a string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalText reads a duration; a number without unit other than 0 is refused.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("must be a duration such as 30s or 1m30s, got %q", b)
	}
	d.Duration = v
	return nil
}

// Secret is text that never appears in dumps: it is written as *****.
type Secret string

const masked = "*****"

// MarshalJSON hides the value.
func (s Secret) MarshalJSON() ([]byte, error) {
	if s == "" {
		return []byte(`""`), nil
	}
	return []byte(`"` + masked + `"`), nil
}

// String hides the value. Convert to string to use it.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString hides the value from %#v too.
func (s Secret) GoString() string { return s.String() }

// Config is the root of the tree. Load returns it complete and valid; nobody
// changes it afterwards.
type Config struct {
	Mode                       string                     `json:"mode"`
	Environment                string                     `json:"environment"`
	General                    General                    `json:"general"`
	Log                        Log                        `json:"log"`
	Store                      Store                      `json:"store"`
	Webhooks                   Webhooks                   `json:"webhooks"`
	APIServer                  APIServer                  `json:"apiServer"`
	Access                     Access                     `json:"access"`
	Multizone                  Multizone                  `json:"multizone"`
	DPServer                   DPServer                   `json:"dpServer"`
	XDSServer                  XDSServer                  `json:"xdsServer"`
	BootstrapServer            BootstrapServer            `json:"bootstrapServer"`
	DNSServer                  DNSServer                  `json:"dnsServer"`
	IPAM                       IPAM                       `json:"ipam"`
	MeshService                MeshService                `json:"meshService"`
	CoreResources              CoreResources              `json:"coreResources"`
	Policies                   Policies                   `json:"policies"`
	Defaults                   Defaults                   `json:"defaults"`
	Metrics                    Metrics                    `json:"metrics"`
	Diagnostics                Diagnostics                `json:"diagnostics"`
	Runtime                    Runtime                    `json:"runtime"`
	MonitoringAssignmentServer MonitoringAssignmentServer `json:"monitoringAssignmentServer"`
	InterCP                    InterCP                    `json:"interCp"`
}

// Federated tells whether this is a zone that has a global.
func (c *Config) Federated() bool {
	return c.Mode == ModeZone && c.Multizone.Zone.GlobalAddress != ""
}

// Global tells whether this is a global control plane.
func (c *Config) Global() bool { return c.Mode == ModeGlobal }

// Masked is the tree as JSON with passwords and keys hidden, which is safe to
// answer and to send to the global.
func (c *Config) Masked() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("config: the tree cannot be encoded: %v", err))
	}
	return b
}

// General applies to every part.
type General struct {
	// WorkDir keeps the embedded database and generated certificates.
	WorkDir string `json:"workDir"`
	TLS
	ResilientComponentBaseBackoff Duration `json:"resilientComponentBaseBackoff"`
	ResilientComponentMaxBackoff  Duration `json:"resilientComponentMaxBackoff"`
}

// TLS configures the certificate of a server. Every server without files of its
// own uses those of General.
type TLS struct {
	CertFile     string   `json:"tlsCertFile"`
	KeyFile      string   `json:"tlsKeyFile"`
	MinVersion   string   `json:"tlsMinVersion"`
	MaxVersion   string   `json:"tlsMaxVersion"`
	CipherSuites []string `json:"tlsCipherSuites"`
}

// Log configures what the process writes to its standard error.
type Log struct {
	Level  string `json:"level"`  // debug, info, warn, error, off
	Format string `json:"format"` // text or json
}

// Store selects where resources are kept.
type Store struct {
	Type         string          `json:"type"` // empty: sqlite in a zone, postgres in a global
	UnsafeDelete bool            `json:"unsafeDelete"`
	SQLite       SQLite          `json:"sqlite" env:"SQLITE"`
	Postgres     Postgres        `json:"postgres"`
	Kubernetes   KubernetesStore `json:"kubernetes"`
	History      History         `json:"history"`
	Encryption   Encryption      `json:"encryption"`
}

// History bounds how much of the past is kept. What is beyond either bound is
// forgotten; 0 is no bound. Some of the newest revisions are always kept.
type History struct {
	Revisions int64    `json:"revisions"`
	Age       Duration `json:"age"`
}

// Encryption protects secrets in the store. Keys are lines id:base64 of 32 bytes,
// of which the first encrypts and all decrypt.
type Encryption struct {
	Key     Secret `json:"key"`
	KeyFile string `json:"keyFile"` // read again when it changes
	// Generate makes a key for an embedded database that has none, in a file
	// beside it with the suffix .key.
	Generate bool `json:"generate"`
}

// SQLite is the embedded store.
type SQLite struct {
	Path string `json:"path"` // relative to the work dir
}

// KubernetesStore keeps resources as custom resources.
type KubernetesStore struct {
	SystemNamespace string `json:"systemNamespace"`
}

// Postgres is the store of a global or of a large zone.
type Postgres struct {
	Host                        string      `json:"host"`
	Port                        int         `json:"port"`
	User                        string      `json:"user"`
	Password                    Secret      `json:"password"`
	DBName                      string      `json:"dbName"`
	ConnectionTimeout           int         `json:"connectionTimeout"` // seconds
	MaxOpenConnections          int         `json:"maxOpenConnections"`
	MinOpenConnections          int         `json:"minOpenConnections"`
	MaxConnectionIdleTime       Duration    `json:"maxConnectionIdleTime"`
	MaxConnectionLifetime       Duration    `json:"maxConnectionLifetime"`
	MaxConnectionLifetimeJitter Duration    `json:"maxConnectionLifetimeJitter"`
	HealthCheckInterval         Duration    `json:"healthCheckInterval"`
	RequireMigrated             bool        `json:"requireMigrated"`                                          // the schema is changed by `migrate up` only
	TolerateNewerDBVersions     bool        `json:"tolerateNewerDBVersions" env:"TOLERATE_NEWER_DB_VERSIONS"` // the next one always is
	TLS                         PostgresTLS `json:"tls"`
}

// PostgresTLS secures the connection to the database.
type PostgresTLS struct {
	Mode          string `json:"mode"` // disable, verifyNone, verifyCa, verifyFull
	CertPath      string `json:"certPath"`
	KeyPath       string `json:"keyPath"`
	CAPath        string `json:"caPath" alias:"STORE_POSTGRES_TLS_ROOT_CERT_PATH"`
	DisableSSLSNI bool   `json:"disableSSLSNI"`
}

// APIServer serves REST and the GUI.
type APIServer struct {
	ReadOnly           bool     `json:"readOnly"`
	CORSAllowedDomains []string `json:"corsAllowedDomains"`
	RootURL            string   `json:"rootUrl"`
	BasePath           string   `json:"basePath"`
	HTTP               Listener `json:"http"`
	HTTPS              HTTPS    `json:"https"`
	Authn              APIAuthn `json:"authn"`
	GUI                GUI      `json:"gui"`
	ReadHeaderTimeout  Duration `json:"readHeaderTimeout"`
	ReadTimeout        Duration `json:"readTimeout"`
	WriteTimeout       Duration `json:"writeTimeout"`
	IdleTimeout        Duration `json:"idleTimeout"`
	MaxBodyBytes       int64    `json:"maxBodyBytes"` // larger bodies get 413
	// MaxConcurrentRequests is how many requests are answered at a time; more get
	// 503. Slow bodies and event streams do not count.
	MaxConcurrentRequests int `json:"maxConcurrentRequests"`
}

// Listener is an address to listen on.
type Listener struct {
	Enabled   bool   `json:"enabled"`
	Interface string `json:"interface"`
	Port      int    `json:"port"`
}

// HTTPS is a Listener with TLS.
type HTTPS struct {
	Listener
	TLS
	CAFile            string `json:"tlsCaFile" alias:"API_SERVER_HTTPS_CLIENT_CERTS_CA_FILE"`
	RequireClientCert bool   `json:"requireClientCert"`
}

// APIAuthn says how callers of the REST API prove who they are.
type APIAuthn struct {
	Type             string    `json:"type"`
	LocalhostIsAdmin bool      `json:"localhostIsAdmin"`
	Tokens           APITokens `json:"tokens"`
}

// APITokens configures user tokens.
type APITokens struct {
	BootstrapAdminToken bool      `json:"bootstrapAdminToken"`
	EnableIssuer        bool      `json:"enableIssuer"`
	Validator           Validator `json:"validator"`
}

// Validator says which keys tokens are checked with.
type Validator struct {
	UseSecrets bool        `json:"useSecrets"`
	PublicKeys []PublicKey `json:"publicKeys"`
}

// PublicKey is a key for offline-issued tokens; only a file can list them.
type PublicKey struct {
	KID     string `json:"kid"`
	Mesh    string `json:"mesh,omitempty"` // dataplane tokens; empty: any mesh
	Key     Secret `json:"key,omitempty"`
	KeyFile string `json:"keyFile,omitempty"`
}

// GUI serves the web application.
type GUI struct {
	Enabled  bool   `json:"enabled"`
	RootURL  string `json:"rootUrl"`
	BasePath string `json:"basePath"`
}

// Access says who may do what.
type Access struct {
	Type string `json:"type"`
	// Anonymous is what callers without token may do from elsewhere: none, read
	// or write. The reference behaves as write.
	Anonymous string `json:"anonymous"`
	Static    Static `json:"static"`
	// Roles, when there are any, are all that authenticated users may do to
	// resources; without roles the static lists decide alone.
	Roles []RoleBinding `json:"roles"`
	Audit Audit         `json:"audit"`
}

// RoleBinding gives a role to users and groups, limited to meshes and zones when
// there are any; only a file can list them.
type RoleBinding struct {
	Role   string   `json:"role"` // viewer, meshOperator, zoneOperator, admin
	Users  []string `json:"users"`
	Groups []string `json:"groups"`
	Meshes []string `json:"meshes"`
	Zones  []string `json:"zones"`
}

// Audit is the log of writes, denials, and tokens that are issued and used, one
// JSON object a line.
type Audit struct {
	Path string `json:"path"` // a file that is appended to; "stderr"; empty: none
	// TokenUse is how often the use of one token is noted again; 0: never.
	TokenUse Duration `json:"tokenUse"`
}

// Static are the access lists.
type Static struct {
	AdminResources       Grant `json:"adminResources"`
	GenerateDPToken      Grant `json:"generateDpToken"`
	GenerateUserToken    Grant `json:"generateUserToken"`
	GenerateZoneToken    Grant `json:"generateZoneToken"`
	ViewConfigDump       Grant `json:"viewConfigDump" env:"GET_CONFIG_DUMP" alias:"ACCESS_STATIC_VIEW_CONFIG_DUMP"`
	ViewStats            Grant `json:"viewStats"`
	ViewClusters         Grant `json:"viewClusters"`
	ControlPlaneMetadata Grant `json:"controlPlaneMetadata"`
}

// Grant lists who is allowed something.
type Grant struct {
	Users  []string `json:"users"`
	Groups []string `json:"groups"`
}

// Multizone connects zones and a global.
type Multizone struct {
	Global MultizoneGlobal `json:"global"`
	Zone   MultizoneZone   `json:"zone"`
}

// MultizoneGlobal applies in mode global.
type MultizoneGlobal struct {
	KDS GlobalKDS `json:"kds"`
}

// GlobalKDS serves zones.
type GlobalKDS struct {
	GRPCPort   int  `json:"grpcPort"`
	TLSEnabled bool `json:"tlsEnabled"`
	TLS
	ZoneInsightFlushInterval Duration        `json:"zoneInsightFlushInterval"`
	MaxMsgSize               int             `json:"maxMsgSize"`
	ZoneHealthCheck          ZoneHealthCheck `json:"zoneHealthCheck"`
	Labels                   SyncLabels      `json:"labels"`
	Auth                     GlobalKDSAuth   `json:"auth"`
}

// GlobalKDSAuth says how zones prove who they are.
type GlobalKDSAuth struct {
	Type string `json:"type"` // zoneToken or none
}

// ZoneHealthCheck ends the streams of zones that stopped reporting.
type ZoneHealthCheck struct {
	PollInterval   Duration `json:"pollInterval"`
	Timeout        Duration `json:"timeout"`
	CloseStaleConn bool     `json:"closeStaleConn"`
}

// SyncLabels leaves labels out of sync.
type SyncLabels struct {
	SkipPrefixes []string `json:"skipPrefixes,omitempty"`
}

// MultizoneZone applies in mode zone.
type MultizoneZone struct {
	Name                         string  `json:"name"`
	GlobalAddress                string  `json:"globalAddress,omitempty"`
	DisableOriginLabelValidation bool    `json:"disableOriginLabelValidation,omitempty"`
	KDS                          ZoneKDS `json:"kds"`
}

// ZoneKDS is the connection of a zone to its global.
type ZoneKDS struct {
	TLSSkipVerify bool        `json:"tlsSkipVerify"`
	RootCAFile    string      `json:"rootCaFile"`
	MaxMsgSize    int         `json:"maxMsgSize"`
	Labels        SyncLabels  `json:"labels"`
	Auth          ZoneKDSAuth `json:"auth"`
	// AdoptGlobal lets a global with another cluster id take over what the zone
	// holds from an earlier one, deletions included.
	AdoptGlobal bool `json:"adoptGlobal"`
}

// ZoneKDSAuth is the zone's proof of who it is.
type ZoneKDSAuth struct {
	CPTokenPath   string `json:"cpTokenPath"`
	CPTokenInline Secret `json:"cpTokenInline"`
}

// DPServer serves bootstrap and xDS to proxies.
type DPServer struct {
	Port int `json:"port"`
	TLS
	ReadHeaderTimeout       Duration `json:"readHeaderTimeout"`
	GracefulShutdownTimeout Duration `json:"gracefulShutdownTimeout"`
	Authn                   DPAuthn  `json:"authn"`
}

// DPAuthn says how proxies prove who they are.
type DPAuthn struct {
	DPProxy   DPProxyAuthn   `json:"dpProxy"`
	ZoneProxy ZoneProxyAuthn `json:"zoneProxy"`
}

// DPProxyAuthn applies to every Dataplane.
type DPProxyAuthn struct {
	Type    string    `json:"type"` // empty: by environment
	DPToken TokenAuth `json:"dpToken"`
}

// ZoneProxyAuthn applies to zone proxies.
type ZoneProxyAuthn struct {
	Type      string    `json:"type"`
	ZoneToken TokenAuth `json:"zoneToken"`
}

// TokenAuth issues and checks one sort of tokens.
type TokenAuth struct {
	EnableIssuer bool      `json:"enableIssuer"`
	Validator    Validator `json:"validator"`
}

// XDSServer serves configuration to proxies.
type XDSServer struct {
	DataplaneStatusFlushInterval Duration `json:"dataplaneStatusFlushInterval"`
	DataplaneDeregistrationDelay Duration `json:"dataplaneDeregistrationDelay" env:"=XDS_DATAPLANE_DEREGISTRATION_DELAY" alias:"XDS_SERVER_DATAPLANE_DEREGISTRATION_DELAY"`
}

// BootstrapServer answers what a proxy starts with.
type BootstrapServer struct {
	Params BootstrapParams `json:"params"`
}

// BootstrapParams go into the bootstrap of every proxy.
type BootstrapParams struct {
	AdminAddress                 string   `json:"adminAddress"`
	AdminPort                    int      `json:"adminPort"`
	EnvoyAdminUnixSocket         bool     `json:"envoyAdminUnixSocket"`
	ReadinessPort                int      `json:"readinessPort"`
	AdminAccessLogPath           string   `json:"adminAccessLogPath"`
	XDSHost                      string   `json:"xdsHost"`
	XDSPort                      int      `json:"xdsPort"` // 0: dpServer.port
	XDSConnectTimeout            Duration `json:"xdsConnectTimeout"`
	XDSGRPCMaxReceiveMessageSize int      `json:"xdsGrpcMaxReceiveMessageBytes"`
}

// DNSServer configures names of the mesh.
type DNSServer struct {
	Domain         string `json:"domain"`
	ServiceVIPPort int    `json:"serviceVipPort" alias:"DNS_SERVICE_SERVICE_VIP_PORT"`
}

// IPAM gives addresses to services.
type IPAM struct {
	MeshService          CIDR     `json:"meshService"`
	MeshExternalService  CIDR     `json:"meshExternalService"`
	MeshMultiZoneService CIDR     `json:"meshMultiZoneService"`
	KnownInternalCIDRs   []string `json:"knownInternalCIDRs" env:"KNOWN_INTERNAL_CIDRS"`
}

// CIDR is a range of addresses.
type CIDR struct {
	CIDR string `json:"cidr" env:"CIDR"`
}

// MeshService configures services generated from Dataplanes.
type MeshService struct {
	DeletionGracePeriod Duration         `json:"deletionGracePeriod"`
	LabelPropagation    LabelPropagation `json:"labelPropagation"`
}

// LabelPropagation copies labels of Dataplanes to generated services.
type LabelPropagation struct {
	Enabled          bool     `json:"enabled"`
	AllowedLabelKeys []string `json:"allowedLabelKeys"`
}

// CoreResources lists the kinds that exist besides policies.
type CoreResources struct {
	Enabled []string `json:"enabled"` // plural names; empty: all
}

// Policies lists the policies that exist.
type Policies struct {
	PluginPoliciesEnabled []string `json:"pluginPoliciesEnabled" env:"=PLUGIN_POLICIES_ENABLED" alias:"POLICIES_PLUGIN_POLICIES_ENABLED"` // plural names; empty: all
}

// Defaults says what is created at start.
type Defaults struct {
	SkipMeshCreation       bool `json:"skipMeshCreation"`
	SkipTenantResources    bool `json:"skipTenantResources"`
	SkipHostnameGenerators bool `json:"skipHostnameGenerators"`
}

// Metrics bounds what insights keep.
type Metrics struct {
	Dataplane    InsightMetrics      `json:"dataplane"`
	Zone         InsightMetrics      `json:"zone"`
	ControlPlane ControlPlaneMetrics `json:"controlPlane"`
}

// InsightMetrics bounds subscriptions in an insight.
type InsightMetrics struct {
	SubscriptionLimit int      `json:"subscriptionLimit"`
	IdleTimeout       Duration `json:"idleTimeout"`
}

// ControlPlaneMetrics are metrics of the control plane itself.
type ControlPlaneMetrics struct {
	ReportResourcesCount bool `json:"reportResourcesCount"`
}

// Diagnostics serves health and metrics.
type Diagnostics struct {
	ServerPort     int  `json:"serverPort"`
	DebugEndpoints bool `json:"debugEndpoints"`
	TLSEnabled     bool `json:"tlsEnabled"`
	TLS
}

// Runtime depends on the environment.
type Runtime struct {
	Universal UniversalRuntime `json:"universal"`
}

// UniversalRuntime applies outside Kubernetes.
type UniversalRuntime struct {
	DataplaneCleanupAge Duration `json:"dataplaneCleanupAge"`
	Spire               Spire    `json:"spire"`
}

// Spire is the workload API of a SPIRE agent.
type Spire struct {
	SocketPath string `json:"socketPath"`
}

// InterCP connects the replicas of one control plane.
type InterCP struct {
	Catalog Catalog       `json:"catalog"`
	Server  InterCPServer `json:"server"`
}

// Catalog lists the replicas.
type Catalog struct {
	InstanceAddress string `json:"instanceAddress"` // empty: the first address that is not loopback
}

// InterCPServer is where replicas reach each other.
type InterCPServer struct {
	Port int `json:"port"`
}
