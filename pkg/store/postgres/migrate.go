package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atoll-mesh/atoll/pkg/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the newest migration. A migration may only do what the
// version before can live with, so that replicas of both run side by side while
// they are updated, and one step back is always possible.
const schemaVersion = 1

// migrationLock is the advisory lock under which the schema changes: "atoll".
const migrationLock = 0x61746f6c6c

// Migrate brings the schema up to date. Any number of processes may call it at
// the same time. It waits for the database like Open.
func Migrate(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	cfg.RequireMigrated = false
	pc, err := cfg.pool()
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.where(), err)
	}
	defer pool.Close()
	return prepare(ctx, cfg, pool)
}

// prepare makes the schema usable, waiting for the database until ctx ends.
func prepare(ctx context.Context, cfg Config, pool *pgxpool.Pool) error {
	for wait := firstBackoff; ; wait = next(wait) {
		err := ensureSchema(ctx, cfg, pool)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w: %w", cfg.where(), store.ErrUnavailable, err)
		case errors.As(err, new(*settle)) || hopeless(err) || !broken(err) && !passing(err):
			return fmt.Errorf("%s: %w", cfg.where(), err)
		}
		cfg.Log.Warn("waiting for the database", "database", cfg.where(), "error", err)
		select {
		case <-time.After(jitter(wait)):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", cfg.where(), store.ErrUnavailable, err)
		}
	}
}

// settle is an error that an administrator has to settle.
type settle struct{ what string }

func (e *settle) Error() string { return e.what }

func ensureSchema(ctx context.Context, cfg Config, pool *pgxpool.Pool) error {
	have, err := version(ctx, pool)
	switch {
	case err != nil:
		return err
	case have == schemaVersion:
		return nil
	case have > schemaVersion+1 && !cfg.TolerateNewerSchema:
		return &settle{fmt.Sprintf("schema %d comes from a newer Atoll, this one knows %d; run the newer one, or set store.postgres.tolerateNewerDBVersions", have, schemaVersion)}
	case have > schemaVersion:
		return nil
	case cfg.RequireMigrated:
		return &settle{fmt.Sprintf("schema %d is stored, %d is needed; run `atoll-cp migrate up`", have, schemaVersion)}
	}
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	if err := migrate(ctx, tx); err != nil {
		tx.Rollback(context.WithoutCancel(ctx)) // the error that matters is the first
		return err
	}
	return tx.Commit(ctx)
}

// migrate runs in one transaction: the schema has a migration as a whole or not.
func migrate(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS atoll_schema (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())`); err != nil {
		return err
	}
	have, err := version(ctx, tx) // again: another replica may have been first
	if err != nil {
		return err
	}
	for v := have + 1; v <= schemaVersion; v++ {
		script, err := migrations.ReadFile(fmt.Sprintf("migrations/%04d.sql", v))
		if err != nil {
			return &settle{err.Error()}
		}
		if _, err := tx.Exec(ctx, string(script), pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("migrate to schema %d: %w", v, err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO atoll_schema (version) VALUES ($1)`, v); err != nil {
			return err
		}
	}
	return nil
}

func version(ctx context.Context, db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (int, error) {
	var v int
	err := db.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM atoll_schema`).Scan(&v)
	if undefinedTable(err) {
		return 0, nil
	}
	return v, err
}
