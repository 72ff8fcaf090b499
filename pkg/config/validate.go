package config

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Error is one setting that is wrong. Path is its key in the tree.
type Error struct {
	Path   string
	Reason string
}

// Errors is every setting that is wrong.
type Errors []Error

// Add appends a violation.
func (e *Errors) Add(path, reason string, args ...any) {
	*e = append(*e, Error{Path: path, Reason: fmt.Sprintf(reason, args...)})
}

// Error lists the violations as "path: reason", one a line when several.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, v := range e {
		lines[i] = v.Path + ": " + v.Reason
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return "the configuration is wrong:\n  " + strings.Join(lines, "\n  ")
}

var dnsLabel = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Validate returns every violation in the tree.
func (c *Config) Validate() Errors {
	v := validator{}
	v.oneOf("mode", c.Mode, ModeZone, ModeGlobal)
	v.oneOf("environment", c.Environment, Universal, Kubernetes)
	v.oneOf("store.type", c.Store.Type, StoreSQLite, StorePostgres, StoreKubernetes, StoreMemory)
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error", "off")
	v.oneOf("log.format", c.Log.Format, "text", "json")
	if c.Global() {
		v.check("environment", c.Environment != Kubernetes, "a global runs with environment universal, with PostgreSQL as its store")
		v.check("store.type", c.Store.Type != StoreKubernetes, "a global cannot keep its resources in Kubernetes, use postgres")
	}
	v.store(&c.Store)
	v.apiServer(c)
	v.access(&c.Access)
	v.multizone(c)
	v.tls("general", &c.General.TLS)
	v.port("diagnostics.serverPort", c.Diagnostics.ServerPort)
	v.tls("diagnostics", &c.Diagnostics.TLS)
	if m := c.MonitoringAssignmentServer; m.Enabled && m.Port != 0 {
		v.port("monitoringAssignmentServer.port", m.Port)
	}
	v.tls("monitoringAssignmentServer", &c.MonitoringAssignmentServer.TLS)
	v.port("interCp.server.port", c.InterCP.Server.Port)
	if c.Mode == ModeZone {
		v.zone(c)
	}
	return v.errs
}

type validator struct{ errs Errors }

func (v *validator) check(path string, ok bool, reason string, args ...any) {
	if !ok {
		v.errs.Add(path, reason, args...)
	}
}

func (v *validator) oneOf(path, got string, allowed ...string) {
	v.check(path, slices.Contains(allowed, got), "must be one of %s, got %q", strings.Join(allowed, ", "), got)
}

func (v *validator) port(path string, port int) {
	v.check(path, port >= 0 && port <= 65535, "must be a port between 0 and 65535, got %d", port)
}

func (v *validator) positive(path string, d Duration) {
	v.check(path, d.Duration > 0, "must be greater than 0")
}

func (v *validator) tls(path string, t *TLS) {
	v.check(path+".tlsKeyFile", t.CertFile == "" || t.KeyFile != "", "must be set together with tlsCertFile")
	v.check(path+".tlsCertFile", t.KeyFile == "" || t.CertFile != "", "must be set together with tlsKeyFile")
	for key, name := range map[string]string{".tlsMinVersion": t.MinVersion, ".tlsMaxVersion": t.MaxVersion} {
		_, ok := tlsVersions[name]
		v.check(path+key, ok || name == "", "must be one of TLSv1_0, TLSv1_1, TLSv1_2, TLSv1_3, got %q", name)
	}
	for i, name := range t.CipherSuites {
		_, ok := cipherSuite(name)
		v.check(fmt.Sprintf("%s.tlsCipherSuites[%d]", path, i), ok, "unknown cipher suite %q", name)
	}
	if lo, hi := tlsVersions[t.MinVersion], tlsVersions[t.MaxVersion]; lo != 0 && hi != 0 {
		v.check(path+".tlsMaxVersion", lo <= hi, "must not be lower than tlsMinVersion")
	}
}

func (v *validator) store(s *Store) {
	v.check("store.history.revisions", s.History.Revisions >= 0, "must not be negative; 0 keeps all")
	v.check("store.history.age", s.History.Age.Duration >= 0, "must not be negative; 0 keeps all")
	v.check("store.encryption.keyFile", s.Encryption.Key == "" || s.Encryption.KeyFile == "", "cannot be set together with key")
	switch s.Type {
	case StoreSQLite:
		v.check("store.sqlite.path", s.SQLite.Path != "", "must name a file")
	case StorePostgres:
		p, at := &s.Postgres, "store.postgres."
		v.check(at+"host", p.Host != "", "cannot be empty")
		v.check(at+"user", p.User != "", "cannot be empty")
		v.check(at+"password", p.Password != "", "cannot be empty")
		v.check(at+"dbName", p.DBName != "", "cannot be empty")
		v.port(at+"port", p.Port)
		v.check(at+"maxOpenConnections", p.MaxOpenConnections >= 0, "must not be negative")
		v.check(at+"minOpenConnections", p.MinOpenConnections >= 0 && (p.MaxOpenConnections == 0 || p.MinOpenConnections <= p.MaxOpenConnections),
			"must be between 0 and maxOpenConnections")
		v.check(at+"maxConnectionLifetimeJitter", p.MaxConnectionLifetimeJitter.Duration < p.MaxConnectionLifetime.Duration,
			"must be shorter than maxConnectionLifetime")
		v.oneOf(at+"tls.mode", p.TLS.Mode, "disable", "verifyNone", "verifyCa", "verifyFull")
		v.check(at+"tls.keyPath", (p.TLS.CertPath == "") == (p.TLS.KeyPath == ""), "must be set together with certPath")
		v.check(at+"tls.caPath", p.TLS.CAPath != "" || p.TLS.Mode != "verifyCa" && p.TLS.Mode != "verifyFull",
			"must be set when tls.mode is %s", p.TLS.Mode)
	}
}

func (v *validator) apiServer(c *Config) {
	a := &c.APIServer
	v.port("apiServer.http.port", a.HTTP.Port)
	v.port("apiServer.https.port", a.HTTPS.Port)
	v.check("apiServer.http.enabled", a.HTTP.Enabled || a.HTTPS.Enabled, "http or https must be enabled")
	v.tls("apiServer.https", &a.HTTPS.TLS)
	v.check("apiServer.https.tlsCaFile", !a.HTTPS.RequireClientCert || a.HTTPS.CAFile != "",
		"must be set when requireClientCert is true")
	v.oneOf("apiServer.authn.type", a.Authn.Type, AuthTokens)
	v.check("apiServer.basePath", strings.HasPrefix(a.BasePath, "/"), "must start with /")
	v.check("apiServer.gui.basePath", strings.HasPrefix(a.GUI.BasePath, "/"), "must start with /")
	for path, raw := range map[string]string{"apiServer.rootUrl": a.RootURL, "apiServer.gui.rootUrl": a.GUI.RootURL} {
		u, err := url.Parse(raw)
		v.check(path, err == nil && (raw == "" || u.IsAbs() || path == "apiServer.gui.rootUrl"), "must be an absolute URL, got %q", raw)
	}
	v.positive("apiServer.readHeaderTimeout", a.ReadHeaderTimeout)
	v.positive("apiServer.readTimeout", a.ReadTimeout)
	v.positive("apiServer.writeTimeout", a.WriteTimeout)
	v.positive("apiServer.idleTimeout", a.IdleTimeout)
	v.check("apiServer.maxBodyBytes", a.MaxBodyBytes > 0, "must be greater than 0")
	v.check("apiServer.maxConcurrentRequests", a.MaxConcurrentRequests > 0, "must be greater than 0")
	v.publicKeys("apiServer.authn.tokens.validator.publicKeys", a.Authn.Tokens.Validator.PublicKeys)
}

func (v *validator) publicKeys(path string, keys []PublicKey) {
	for i, k := range keys {
		at := fmt.Sprintf("%s[%d]", path, i)
		v.check(at+".kid", k.KID != "", "cannot be empty")
		v.check(at, (k.Key == "") != (k.KeyFile == ""), "set either key or keyFile")
	}
}

func (v *validator) access(a *Access) {
	v.oneOf("access.type", a.Type, "static")
	v.oneOf("access.anonymous", a.Anonymous, AnonymousNone, AnonymousRead, AnonymousWrite)
	for i := range a.Roles {
		at := fmt.Sprintf("access.roles[%d]", i)
		v.oneOf(at+".role", a.Roles[i].Role, "viewer", "meshOperator", "zoneOperator", "admin")
		v.check(at, len(a.Roles[i].Users)+len(a.Roles[i].Groups) > 0, "must name users or groups")
	}
}

func (v *validator) multizone(c *Config) {
	if c.Global() {
		k := &c.Multizone.Global.KDS
		v.port("multizone.global.kds.grpcPort", k.GRPCPort)
		v.tls("multizone.global.kds", &k.TLS)
		v.oneOf("multizone.global.kds.auth.type", k.Auth.Type, AuthZoneToken, AuthNone)
		v.check("multizone.global.kds.maxMsgSize", k.MaxMsgSize > 0, "must be greater than 0")
		v.check("multizone.global.kds.zoneHealthCheck.timeout",
			(k.ZoneHealthCheck.PollInterval.Duration > 0) == (k.ZoneHealthCheck.Timeout.Duration > 0),
			"must be set together with pollInterval")
		return
	}
	z := &c.Multizone.Zone
	v.check("multizone.zone.name", dnsLabel.MatchString(z.Name),
		"must be a DNS label: lower-case letters, digits and -, at most 63, starting with a letter, got %q", z.Name)
	if z.GlobalAddress != "" {
		u, err := url.Parse(z.GlobalAddress)
		v.check("multizone.zone.globalAddress", err == nil && (u.Scheme == "grpc" || u.Scheme == "grpcs") && u.Host != "",
			"must be grpc://host:port or grpcs://host:port, got %q", z.GlobalAddress)
		v.check("multizone.zone.kds.auth.cpTokenPath", z.KDS.Auth.CPTokenPath == "" || z.KDS.Auth.CPTokenInline == "",
			"cannot be set together with cpTokenInline")
	}
	v.check("multizone.zone.kds.maxMsgSize", z.KDS.MaxMsgSize > 0, "must be greater than 0")
}

func (v *validator) zone(c *Config) {
	d := &c.DPServer
	v.port("dpServer.port", d.Port)
	v.tls("dpServer", &d.TLS)
	v.positive("dpServer.readHeaderTimeout", d.ReadHeaderTimeout)
	v.oneOf("dpServer.authn.dpProxy.type", d.Authn.DPProxy.Type, AuthDPToken, AuthServiceAccountToken, AuthNone)
	v.oneOf("dpServer.authn.zoneProxy.type", d.Authn.ZoneProxy.Type, AuthZoneToken, AuthServiceAccountToken, AuthNone)
	v.publicKeys("dpServer.authn.dpProxy.dpToken.validator.publicKeys", d.Authn.DPProxy.DPToken.Validator.PublicKeys)
	v.publicKeys("dpServer.authn.zoneProxy.zoneToken.validator.publicKeys", d.Authn.ZoneProxy.ZoneToken.Validator.PublicKeys)
	p := &c.BootstrapServer.Params
	v.port("bootstrapServer.params.adminPort", p.AdminPort)
	v.port("bootstrapServer.params.readinessPort", p.ReadinessPort)
	v.port("bootstrapServer.params.xdsPort", p.XDSPort)
	v.positive("bootstrapServer.params.xdsConnectTimeout", p.XDSConnectTimeout)
	for path, cidr := range map[string]string{
		"ipam.meshService.cidr":          c.IPAM.MeshService.CIDR,
		"ipam.meshExternalService.cidr":  c.IPAM.MeshExternalService.CIDR,
		"ipam.meshMultiZoneService.cidr": c.IPAM.MeshMultiZoneService.CIDR,
	} {
		_, err := netip.ParsePrefix(cidr)
		v.check(path, err == nil, "must be a range of addresses such as 241.0.0.0/8, got %q", cidr)
	}
	for i, cidr := range c.IPAM.KnownInternalCIDRs {
		_, err := netip.ParsePrefix(cidr)
		v.check(fmt.Sprintf("ipam.knownInternalCIDRs[%d]", i), err == nil, "must be a range of addresses, got %q", cidr)
	}
	for i, key := range c.MeshService.LabelPropagation.AllowedLabelKeys {
		v.check(fmt.Sprintf("meshService.labelPropagation.allowedLabelKeys[%d]", i),
			!strings.HasPrefix(key, "kuma.io/") && !strings.HasPrefix(key, "k8s.kuma.io/") && !strings.HasPrefix(key, "atoll.mesh/"),
			"%q is reserved", key)
	}
	v.positive("runtime.universal.dataplaneCleanupAge", c.Runtime.Universal.DataplaneCleanupAge)
}

var tlsVersions = map[string]uint16{
	"TLSv1_0": tls.VersionTLS10, "TLSv1_1": tls.VersionTLS11, "TLSv1_2": tls.VersionTLS12, "TLSv1_3": tls.VersionTLS13,
}

func cipherSuite(name string) (uint16, bool) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.Name == name {
			return s.ID, true
		}
	}
	return 0, false
}
