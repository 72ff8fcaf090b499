package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the newest migration. A migration may only do what the
// version before can live with, so that one step back is always possible.
const schemaVersion = 1

// dsn writes the path as a URI, so that no character in it has a meaning.
func dsn(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

// create makes the file for its owner only, as it holds secrets, and makes its
// name durable: SQLite syncs what is in the file, not the folder it is in.
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lock takes the lock that keeps other processes out. The kernel gives it back
// when the process ends, however it ends. It is a file of its own because closing
// any handle of the database file would drop the locks that SQLite has on it.
func lock(ctx context.Context, path string, wait time.Duration) (*os.File, error) {
	if wait == 0 {
		wait = 5 * time.Second
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	giveUp := time.After(wait)
	// A timer, because waiting for this lock in the kernel could not be ended.
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-again.C:
		case <-giveUp:
			return nil, errors.Join(errors.New("another process has it open; stop that one, or give this one a file of its own"), f.Close())
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		}
	}
}

func migrate(ctx context.Context, db *sql.DB) error {
	var have int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return describe(err)
	}
	if have > schemaVersion+1 {
		return fmt.Errorf("its schema %d comes from a newer Atoll, this one knows %d; run the newer one", have, schemaVersion)
	}
	for v := have + 1; v <= schemaVersion; v++ {
		script, err := migrations.ReadFile(fmt.Sprintf("migrations/%04d.sql", v))
		if err != nil {
			return err
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, string(script)+fmt.Sprintf("\nPRAGMA user_version = %d;", v))
		if err != nil {
			return errors.Join(fmt.Errorf("migrate to schema %d: %w", v, err), tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("migrate to schema %d: %w", v, err)
		}
	}
	return nil
}

func describe(err error) error {
	if code(err) == codes.SQLITE_NOTADB || code(err) == codes.SQLITE_CORRUPT {
		return fmt.Errorf("%w; it is damaged or no database: put back a copy, or move it away to start empty", err)
	}
	return err
}

// code returns the primary result code of SQLite, or 0.
func code(err error) int {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// unavailable tells errors of the disk or of locks, which may pass, from errors
// of a statement, which will not.
func unavailable(err error) bool {
	switch code(err) {
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_IOERR, codes.SQLITE_FULL,
		codes.SQLITE_CANTOPEN, codes.SQLITE_READONLY, codes.SQLITE_NOMEM, codes.SQLITE_PERM:
		return true
	}
	return false
}
