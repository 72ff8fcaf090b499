package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/sqlite"
	"github.com/atoll-mesh/atoll/pkg/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(func(ctx context.Context, where string) (store.Store, error) {
		return sqlite.Open(ctx, where, sqlite.Options{})
	})
	os.Exit(m.Run())
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	st, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Store {
		return open(t, filepath.Join(t.TempDir(), "atoll.db"))
	})
}

func TestCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "atoll.db")
	storetest.Crash(t, path, func(t testing.TB) store.Store { return open(t, path) })
}

func TestReopen(t *testing.T) {
	// Nothing in a path means anything to the driver.
	path := filepath.Join(t.TempDir(), "a b?c%20d#e&f;ü", "atoll.db")
	st := open(t, path)
	op := store.Op{Record: store.Record{Spec: []byte("1")}}
	op.Type, op.Name = "Zone", "east"
	if _, err := st.Write(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; it holds secrets and must be 0600", info.Mode(), err)
	}

	_, err = sqlite.Open(t.Context(), path, sqlite.Options{LockTimeout: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st = open(t, path)
	b, err := st.Read(t.Context(), 0, 0)
	if err != nil || len(b.Commits) != 1 || b.Head != 1 {
		t.Errorf("after opening again: %+v, %v", b, err)
	}
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "atoll.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v, want an error that names the file and says what to do", err)
	}
}

// BenchmarkWrites is 1,000 clients that write one resource each, at once.
func BenchmarkWrites(b *testing.B) {
	storetest.Benchmark(b, open(b, filepath.Join(b.TempDir(), "atoll.db")))
}
