package cp

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// An embedded database without a configured key has one of its own from the
// start, and does not go on without it.
func TestEmbeddedDatabaseHasAKey(t *testing.T) {
	const value = "the-value-that-nobody-may-read-0123456789"
	cfg := config.Default()
	cfg.General.WorkDir = t.TempDir()
	cfg.Store.Type = config.StoreSQLite
	key := filepath.Join(cfg.General.WorkDir, "atoll.db.key")
	var log bytes.Buffer
	open := func() (*plane, error) {
		log.Reset()
		return newPlane(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil)))
	}
	id := resource.ID{Type: kind.Secret, Mesh: "default", Name: "s"}
	for round := range 2 {
		p, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if warned := strings.Contains(log.String(), "keep it safe"); warned != (round == 0) {
			t.Errorf("start %d: %s", round, log.String())
		}
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		if _, err := p.store.Write(t.Context(), store.Op{Record: store.Record{ID: id, Spec: []byte(value)}, Expect: store.Any}); err != nil {
			t.Fatal(err)
		}
		wantNowhere(t, cfg.General.WorkDir, value)
		p.store.Close()
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("without its key: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a second key was made")
	}
	if err := os.WriteFile(key, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Store.Encryption.Generate = false // and so neither made nor used
	if _, err := open(); err == nil {
		t.Error("secrets went missing without a word")
	}
	cfg.Store.SQLite.Path = "other.db"
	p, err := open()
	if err != nil {
		t.Fatal(err)
	}
	p.store.Close()
	if !strings.Contains(log.String(), "kept in clear") {
		t.Errorf("no warning: %s", log.String())
	}
}

// wantNowhere fails when a file below dir holds a value, in clear or in base64.
func wantNowhere(t *testing.T, dir, value string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, form := range []string{value, base64.StdEncoding.EncodeToString([]byte(value))[:24]} {
			if bytes.Contains(b, []byte(form)) {
				t.Errorf("%s holds %q", path, form)
			}
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files: %v", files, err)
	}
}
