package postgres

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Modes of TLS.
const (
	TLSDisable    = "disable"
	TLSVerifyNone = "verifyNone" // encrypts, but trusts whoever answers
	TLSVerifyCA   = "verifyCa"   // the certificate must come from the CA
	TLSVerifyFull = "verifyFull" // and must be for the host
)

// TLS says how connections are protected. An empty mode is TLSDisable.
type TLS struct {
	Mode       string
	CertPath   string // client certificate
	KeyPath    string
	CAPath     string
	DisableSNI bool
}

// Config says which database and how. Zero values mean what the comments say.
type Config struct {
	Host     string // or a comma-separated list, of which the one that takes writes is used; 127.0.0.1
	Port     int    // 5432
	User     string
	Password string
	DBName   string
	TLS      TLS

	// ConnectionTimeout bounds how long connecting may take; 5 s. An operation
	// fails at the latest twice this time after the database went away.
	ConnectionTimeout time.Duration

	MaxOpenConnections          int           // 50; one more listens
	MinOpenConnections          int           // 0
	MaxConnectionIdleTime       time.Duration // 30 min
	MaxConnectionLifetime       time.Duration // 1 h
	MaxConnectionLifetimeJitter time.Duration // 1 min
	HealthCheckInterval         time.Duration // 30 s

	// RequireMigrated makes Open fail when the schema is not up to date, instead
	// of migrating it: for databases whose user may not change the schema.
	RequireMigrated bool
	// TolerateNewerSchema makes Open accept any newer schema. The next one is
	// always accepted, so that one step back needs no setting.
	TolerateNewerSchema bool

	Log *slog.Logger // nil: slog.Default
}

func (c Config) withDefaults() Config {
	c.Host = cmp.Or(c.Host, "127.0.0.1")
	c.Port = cmp.Or(c.Port, 5432)
	c.TLS.Mode = cmp.Or(c.TLS.Mode, TLSDisable)
	c.ConnectionTimeout = cmp.Or(c.ConnectionTimeout, 5*time.Second)
	c.MaxOpenConnections = cmp.Or(c.MaxOpenConnections, 50)
	c.MaxConnectionIdleTime = cmp.Or(c.MaxConnectionIdleTime, 30*time.Minute)
	c.MaxConnectionLifetime = cmp.Or(c.MaxConnectionLifetime, time.Hour)
	c.MaxConnectionLifetimeJitter = cmp.Or(c.MaxConnectionLifetimeJitter, time.Minute)
	c.HealthCheckInterval = cmp.Or(c.HealthCheckInterval, 30*time.Second)
	c.Log = cmp.Or(c.Log, slog.Default())
	return c
}

// where names the database in messages, without the password.
func (c Config) where() string {
	return fmt.Sprintf("postgres %s:%d/%s", c.Host, c.Port, c.DBName)
}

func (c Config) dsn() (string, error) {
	sslmode := map[string]string{
		TLSDisable: "disable", TLSVerifyNone: "require", TLSVerifyCA: "verify-ca", TLSVerifyFull: "verify-full",
	}[c.TLS.Mode]
	if sslmode == "" {
		return "", fmt.Errorf("store.postgres.tls.mode %q: must be one of disable, verifyNone, verifyCa, verifyFull", c.TLS.Mode)
	}
	if (c.TLS.CertPath == "") != (c.TLS.KeyPath == "") {
		return "", fmt.Errorf("store.postgres.tls: certPath and keyPath go together, set both or none")
	}
	var b strings.Builder
	add := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s='%s' ", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	add("host", c.Host)
	add("port", strconv.Itoa(c.Port))
	add("user", c.User)
	add("password", c.Password)
	add("dbname", c.DBName)
	add("sslmode", sslmode)
	if c.TLS.Mode != TLSDisable {
		add("sslcert", c.TLS.CertPath)
		add("sslkey", c.TLS.KeyPath)
		if c.TLS.Mode != TLSVerifyNone {
			add("sslrootcert", c.TLS.CAPath)
		}
		if c.TLS.DisableSNI {
			add("sslsni", "0")
		}
	}
	add("target_session_attrs", "read-write")
	return b.String(), nil
}

// pool makes the settings of pgx. c has its defaults.
func (c Config) pool() (*pgxpool.Config, error) {
	if c.User == "" || c.DBName == "" {
		return nil, fmt.Errorf("store.postgres: user and dbName must be set")
	}
	if c.MinOpenConnections > c.MaxOpenConnections {
		return nil, fmt.Errorf("store.postgres: minOpenConnections %d is more than maxOpenConnections %d", c.MinOpenConnections, c.MaxOpenConnections)
	}
	dsn, err := c.dsn()
	if err != nil {
		return nil, err
	}
	pc, err := pgxpool.ParseConfig(dsn)
	if err != nil { // names no password: pgx masks it
		return nil, fmt.Errorf("store.postgres: %w", err)
	}
	pc.MaxConns = int32(c.MaxOpenConnections)
	pc.MinConns = int32(c.MinOpenConnections)
	pc.MaxConnIdleTime = c.MaxConnectionIdleTime
	pc.MaxConnLifetime = c.MaxConnectionLifetime
	pc.MaxConnLifetimeJitter = c.MaxConnectionLifetimeJitter
	pc.HealthCheckPeriod = c.HealthCheckInterval
	pc.PingTimeout = c.ConnectionTimeout
	pc.ConnConfig.ConnectTimeout = c.ConnectionTimeout
	pc.ConnConfig.RuntimeParams["application_name"] = "atoll-cp"
	// A server that vanished without a word is noticed after 20 s, also by a
	// connection that only listens.
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	pc.ConnConfig.DialFunc = pgconn.DialFunc(dialer.DialContext)
	return pc, nil
}
