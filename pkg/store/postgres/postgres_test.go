package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/postgres"
	"github.com/atoll-mesh/atoll/pkg/store/storetest"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

// server is shared by all tests but those that kill theirs.
var server *pgtemp.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	storetest.Child(func(ctx context.Context, where string) (store.Store, error) {
		var cfg postgres.Config
		if err := json.Unmarshal([]byte(where), &cfg); err != nil {
			return nil, err
		}
		return postgres.Open(ctx, cfg)
	})
	var err error
	if server, err = pgtemp.Start(context.Background(), pgtemp.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	return m.Run()
}

var databases atomic.Int64

// database makes a new, empty one.
func database(t testing.TB, s *pgtemp.Server) postgres.Config {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	name := fmt.Sprintf("test%d", databases.Add(1))
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return postgres.Config{Host: s.Host(), Port: s.Port(), User: s.User(), Password: s.Password(), DBName: name}
}

func open(t testing.TB, cfg postgres.Config) *postgres.Store {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	st, err := postgres.Open(t.Context(), cfg)
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

// connect is for what goes around the store.
func connect(t testing.TB, cfg postgres.Config) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable",
		cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.DBName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func query(t testing.TB, cfg postgres.Config, sql string) (n int64) {
	t.Helper()
	if err := connect(t, cfg).QueryRow(context.Background(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func exec(t testing.TB, cfg postgres.Config, sql string) {
	t.Helper()
	if _, err := connect(t, cfg).Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func put(name, text string) store.Op {
	return store.Op{Record: store.Record{ID: resource.ID{Type: "T", Name: name}, Spec: []byte(text)}, Expect: store.Any}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Store { return open(t, database(t, server)) })
}

func TestCrash(t *testing.T) {
	cfg := database(t, server)
	where, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Crash(t, string(where), func(t testing.TB) store.Store { return open(t, cfg) })
}

func TestReplicas(t *testing.T) {
	cfg := database(t, server)
	a, b := open(t, cfg), open(t, cfg)
	bell := b.Doorbell(t.Context())
	var wg sync.WaitGroup
	for i := range 16 {
		st := []store.Store{a, b}[i%2]
		wg.Go(func() {
			for n := range 20 {
				if _, err := st.Write(t.Context(), put(fmt.Sprint(i), fmt.Sprint(n)), put("shared", fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := 0
	for after := store.Revision(0); ; {
		batch, err := b.Read(t.Context(), after, 0)
		if err == nil {
			err = storetest.Consecutive(after, batch)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(batch.Commits) == 0 {
			break
		}
		after += store.Revision(len(batch.Commits))
		seen += len(batch.Commits)
	}
	if seen != 320 {
		t.Errorf("%d commits, want 320", seen)
	}
	// b's bell hears what a does: once b has had its own rings.
	rung(t, bell)
	if _, err := a.Write(t.Context(), put("news", "1")); err != nil {
		t.Fatal(err)
	}
	rung(t, bell)
}

func TestMigrations(t *testing.T) {
	cfg := database(t, server)
	required := cfg
	required.RequireMigrated = true
	if st, err := postgres.Open(t.Context(), required); err == nil {
		st.Close()
		t.Fatal("opened a database without a schema although that was required")
	} else if want := "atoll-cp migrate up"; !contains(err, want) {
		t.Errorf("%v: does not say %q", err, want)
	}
	var wg sync.WaitGroup
	for range 8 { // all replicas start at once
		wg.Go(func() {
			if err := postgres.Migrate(t.Context(), cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := query(t, cfg, "SELECT count(*) FROM atoll_schema"); n != 1 {
		t.Errorf("%d migrations were applied, want 1", n)
	}
	open(t, required)

	query(t, cfg, "INSERT INTO atoll_schema (version) SELECT max(version) + 1 FROM atoll_schema RETURNING version")
	open(t, cfg) // one step back is always possible
	query(t, cfg, "INSERT INTO atoll_schema (version) SELECT max(version) + 1 FROM atoll_schema RETURNING version")
	if _, err := postgres.Open(t.Context(), cfg); !contains(err, "newer Atoll") {
		t.Errorf("two steps back: %v", err)
	}
	cfg.TolerateNewerSchema = true
	open(t, cfg)
}

func TestOpenFails(t *testing.T) {
	good := database(t, server)
	for name, c := range map[string]struct {
		change func(*postgres.Config)
		want   string
	}{
		"password":   {func(c *postgres.Config) { c.Password = "it's\\wrong" }, "password authentication failed"},
		"database":   {func(c *postgres.Config) { c.DBName = "nowhere" }, "does not exist"},
		"no user":    {func(c *postgres.Config) { c.User = "" }, "user and dbName must be set"},
		"TLS mode":   {func(c *postgres.Config) { c.TLS.Mode = "maybe" }, "must be one of"},
		"half a key": {func(c *postgres.Config) { c.TLS.KeyPath = "key.pem" }, "go together"},
		"pool":       {func(c *postgres.Config) { c.MinOpenConnections = 99 }, "is more than"},
	} {
		cfg := good
		c.change(&cfg)
		st, err := postgres.Open(t.Context(), cfg) // returns without waiting
		if err == nil {
			st.Close()
		}
		if !contains(err, c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if cfg.Password != "" && contains(err, cfg.Password) {
			t.Errorf("%s: the error tells the password", name)
		}
	}
}

// BenchmarkWrites is 1,000 clients that write one resource each, at once.
func BenchmarkWrites(b *testing.B) { storetest.Benchmark(b, open(b, database(b, server))) }
