package cp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/store/postgres"
	"github.com/atoll-mesh/atoll/pkg/store/sqlite"
)

// openRetry is the pause between attempts to reach a database that is not up
// yet; nothing would tell us when it is.
const openRetry = time.Second

// openStore opens the configured store. A PostgreSQL that cannot be reached yet
// is waited for, since machines start in any order.
func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (store.Store, error) {
	switch cfg.Store.Type {
	case config.StoreMemory:
		return memory.Open(), nil
	case config.StoreSQLite:
		return sqlite.Open(ctx, sqlitePath(cfg), sqlite.Options{})
	case config.StorePostgres:
		pg := postgresConfig(&cfg.Store.Postgres)
		pg.Log = log
		for {
			st, err := postgres.Open(ctx, pg)
			if err == nil {
				return st, nil
			}
			if !errors.Is(err, store.ErrUnavailable) {
				return nil, err
			}
			log.Warn("PostgreSQL cannot be reached yet; trying again", "error", err, "retryIn", openRetry)
			select {
			case <-time.After(openRetry):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	return nil, fmt.Errorf("store.type: %q is not supported; choose %s, %s or %s",
		cfg.Store.Type, config.StoreSQLite, config.StorePostgres, config.StoreMemory)
}

// sqlitePath is the file of the embedded database.
func sqlitePath(cfg *config.Config) string {
	if path := cfg.Store.SQLite.Path; filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(cfg.General.WorkDir, cfg.Store.SQLite.Path)
}

// postgresConfig translates the settings of the database.
func postgresConfig(c *config.Postgres) postgres.Config {
	return postgres.Config{
		Host: c.Host, Port: c.Port, User: c.User, Password: string(c.Password), DBName: c.DBName,
		TLS: postgres.TLS{
			Mode: c.TLS.Mode, CertPath: c.TLS.CertPath, KeyPath: c.TLS.KeyPath, CAPath: c.TLS.CAPath, DisableSNI: c.TLS.DisableSSLSNI,
		},
		ConnectionTimeout:           time.Duration(c.ConnectionTimeout) * time.Second,
		MaxOpenConnections:          c.MaxOpenConnections,
		MinOpenConnections:          c.MinOpenConnections,
		MaxConnectionIdleTime:       c.MaxConnectionIdleTime.Duration,
		MaxConnectionLifetime:       c.MaxConnectionLifetime.Duration,
		MaxConnectionLifetimeJitter: c.MaxConnectionLifetimeJitter.Duration,
		HealthCheckInterval:         c.HealthCheckInterval.Duration,
		RequireMigrated:             c.RequireMigrated,
		TolerateNewerSchema:         c.TolerateNewerDBVersions,
	}
}

// Migrate brings the schema of the configured database up to date.
func Migrate(ctx context.Context, cfg *config.Config) error {
	if cfg.Store.Type != config.StorePostgres {
		return fmt.Errorf("store.type is %q, which needs no migration; set it to %s", cfg.Store.Type, config.StorePostgres)
	}
	return postgres.Migrate(ctx, postgresConfig(&cfg.Store.Postgres))
}
