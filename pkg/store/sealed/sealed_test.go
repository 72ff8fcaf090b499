package sealed_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/store/postgres"
	"github.com/atoll-mesh/atoll/pkg/store/sealed"
	"github.com/atoll-mesh/atoll/pkg/store/sqlite"
	"github.com/atoll-mesh/atoll/pkg/store/storetest"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

func key(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

func ring(t testing.TB, text string) *sealed.Ring {
	t.Helper()
	r, err := sealed.NewRing([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The suite uses resources of type MeshTimeout.
func TestIsAStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Store {
		st := sealed.Wrap(memory.Open(), ring(t, "a:"+key(1)), "MeshTimeout")
		t.Cleanup(func() { st.Close() })
		return st
	})
}

func TestParseKeys(t *testing.T) {
	k, err := sealed.ParseKeys([]byte("# newest first\nb:" + key(2) + "\r\n\na: " + key(1) + "\n"))
	if err != nil || k.Active() != "b" {
		t.Errorf("active %q, %v", k.Active(), err)
	}
	if k, err := sealed.ParseKeys([]byte(key(1))); err != nil || len(k.Active()) != 12 {
		t.Errorf("a key without id: %q, %v", k.Active(), err)
	}
	if k, err := sealed.ParseKeys(nil); err != nil || k.Active() != "" {
		t.Errorf("no keys: %q, %v", k.Active(), err)
	}
	for _, text := range []string{"a:" + key(1) + ",a:" + key(2), "a:c2hvcnQ=", "a:?", "a b:" + key(1), "hello"} {
		_, err := sealed.ParseKeys([]byte(text))
		if err == nil || strings.Contains(err.Error(), key(1)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

var secretID = resource.ID{Type: "Secret", Mesh: "default", Name: "s"}

const value = "the-value-that-nobody-may-read-0123456789"

func write(t testing.TB, st store.Store, text string) {
	t.Helper()
	if _, err := st.Write(t.Context(),
		store.Op{Record: store.Record{ID: secretID, Spec: []byte("\x0a" + text)}, Expect: store.Any, Author: "joe"},
		store.Op{Record: store.Record{ID: resource.ID{Type: "Mesh", Name: "default"}, Spec: []byte("open")}, Expect: store.Any},
	); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, st store.Store) (string, error) {
	t.Helper()
	rows, _, err := st.Snapshot(t.Context())
	if err != nil {
		return "", err
	}
	for r, err := range rows {
		if err != nil {
			return "", err
		}
		if r.ID == secretID {
			return strings.TrimPrefix(string(r.Spec), "\x0a"), nil
		}
	}
	return "", errors.New("it is gone")
}

func TestSealedValues(t *testing.T) {
	inner := memory.Open()
	st := sealed.Wrap(inner, ring(t, "a:"+key(1)), "Secret")
	write(t, st, value)
	if got, err := read(t, st); got != value || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := read(t, inner); strings.Contains(got, value) || err != nil {
		t.Errorf("stored in clear: %q, %v", got, err)
	}
	b, err := inner.Read(t.Context(), 0, 0)
	if err != nil || bytes.Contains(b.Commits[0].Changes[0].Record.Spec, []byte(value)) {
		t.Errorf("logged in clear, %v", err)
	}
	if string(b.Commits[0].Changes[1].Record.Spec) != "open" {
		t.Error("what is no secret was sealed")
	}
	// Reading in clear does not change what the store has.
	if _, err := st.Read(t.Context(), 0, 0); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, inner); strings.Contains(got, value) {
		t.Error("reading opened what is stored")
	}

	for name, keys := range map[string]string{"other key": "b:" + key(2), "no key": "", "same id, other key": "a:" + key(2)} {
		other := sealed.Wrap(inner, ring(t, keys), "Secret")
		err := other.Check(t.Context())
		if !errors.Is(err, sealed.ErrNoKey) && !errors.Is(err, sealed.ErrDamaged) || !strings.Contains(err.Error(), "Secret default/s") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := other.Read(t.Context(), 0, 0); err == nil {
			t.Errorf("%s: the log could be read", name)
		}
	}

	// A value cannot be moved to another resource, nor be changed.
	var moved, changed store.Record
	rows, _, _ := inner.Snapshot(t.Context())
	for r := range rows {
		if r.ID == secretID {
			moved, changed = r, r
		}
	}
	moved.Name = "other"
	changed.Spec = bytes.Clone(changed.Spec)
	changed.Spec[len(changed.Spec)-1] ^= 1
	for _, r := range []store.Record{moved, changed} {
		if _, err := inner.Write(t.Context(), store.Op{Record: r, Expect: store.Any}); err != nil {
			t.Fatal(err)
		}
		if err := st.Check(t.Context()); !errors.Is(err, sealed.ErrDamaged) {
			t.Errorf("%s: %v", r.ID, err)
		}
		write(t, st, value)
		if _, err := inner.Write(t.Context(), store.Delete(moved.ID, store.Any, "")); err != nil {
			t.Fatal(err)
		}
	}
}

// Keys are rotated while the control plane runs, by replacing the file.
func TestRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		inner := memory.Open()
		defer inner.Close()
		write(t, inner, value) // from before there were keys
		put("a:" + key(1))
		r, err := sealed.NewFileRing(file)
		if err != nil {
			t.Fatal(err)
		}
		st := sealed.Wrap(inner, r, "Secret")
		if got, err := read(t, st); got != value || err != nil {
			t.Errorf("clear: %q, %v", got, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- st.Reseal(ctx, "control", slog.New(slog.DiscardHandler)) }()
		defer func() { stop(); <-done }()
		openable := func(keys string) error { return sealed.Wrap(inner, ring(t, keys), "Secret").Check(t.Context()) }

		time.Sleep(time.Second)
		synctest.Wait()
		if got, _ := read(t, inner); strings.Contains(got, value) {
			t.Error("still in clear")
		}
		if _, err := inner.Read(t.Context(), 0, 0); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("the log still has the clear value: %v", err)
		}
		put("b:" + key(2) + "\na:" + key(1))
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := openable("b:" + key(2)); err != nil {
			t.Errorf("not sealed with the new key: %v", err)
		}
		put("broken")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, err := read(t, st); got != value || err != nil {
			t.Errorf("a broken file: %q, %v", got, err)
		}
		put("b:" + key(2)) // the old one is given up, and the history that needs it
		time.Sleep(time.Minute)
		synctest.Wait()
		write(t, st, value)
		if floor, err := store.Floor(t.Context(), inner, 4); err != nil || floor == 0 {
			t.Errorf("the log begins after %d, %v", floor, err)
		}
		if got, err := read(t, st); got != value || err != nil {
			t.Errorf("at the end: %q, %v", got, err)
		}
	})
}

// scan fails when a file below dir holds the value.
func scan(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if bytes.Contains(b, []byte(value)) {
			t.Errorf("%s holds the value in clear", filepath.Base(path))
		}
		files++
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files: %v", files, err)
	}
}

func TestSQLiteFileHasNoClearValue(t *testing.T) {
	dir := t.TempDir()
	inner, err := sqlite.Open(t.Context(), filepath.Join(dir, "atoll.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	write(t, inner, value) // from before there were keys: this must go as well
	for i := range 100 {
		write(t, inner, value+strings.Repeat("x", i))
	}
	st := sealed.Wrap(inner, ring(t, key(1)), "Secret")
	write(t, st, value)
	if err := sealed.ResealNow(st, t.Context(), "control", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	write(t, st, value)
	scan(t, dir)
	if got, err := read(t, st); got != value || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// dump reads every column of every table, as pg_dump does, and fails when one
// holds the value.
func dump(t *testing.T, srv *pgtemp.Server) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", srv.Host(), srv.Port(), srv.User(), srv.Password(), srv.DBName()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	texts := func(query string) []string {
		rows, err := conn.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		out, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	tables := texts(`SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`)
	rows := 0
	for _, table := range tables {
		for _, row := range texts(`SELECT to_jsonb(t)::text FROM ` + table + ` t`) {
			rows++
			for _, form := range []string{value, hex.EncodeToString([]byte(value)), base64.StdEncoding.EncodeToString([]byte(value))} {
				if strings.Contains(row, form) {
					t.Errorf("%s holds the value: %s", table, row)
				}
			}
		}
	}
	if rows < 4 {
		t.Errorf("%d rows in %v", rows, tables)
	}
}

func TestPostgresFilesHaveNoClearValue(t *testing.T) {
	parent, err := os.MkdirTemp("", "atoll-sealed-")
	if err == nil {
		err = os.Chmod(parent, 0o755) // the server runs as another user when we are root
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	srv, err := pgtemp.Start(t.Context(), pgtemp.Options{Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	inner, err := postgres.Open(t.Context(), postgres.Config{
		Host: srv.Host(), Port: srv.Port(), User: srv.User(), Password: srv.Password(), DBName: srv.DBName(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	st := sealed.Wrap(inner, ring(t, key(1)), "Secret")
	write(t, st, value)
	write(t, st, value+"2")
	if got, err := read(t, st); got != value+"2" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	dump(t, srv)
	if err := inner.Scrub(t.Context()); err != nil { // also writes the tables out
		t.Fatal(err)
	}
	if err := srv.Stop(); err != nil { // a clean end writes everything to disk
		t.Fatal(err)
	}
	scan(t, parent)
}
