package pgtemp

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestServer(t *testing.T) {
	ctx := t.Context()
	s, err := Start(ctx, Options{Settings: map[string]string{"max_connections": "42"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := ask(t, s, "SHOW max_connections"); got != "42" {
		t.Errorf("max_connections: %s, want 42", got)
	}
	ask(t, s, "CREATE TABLE kept AS SELECT 'yes' AS kept")
	for _, c := range []struct {
		name string
		end  func() error
	}{{"stop", s.Stop}, {"abort", s.Abort}, {"kill", s.Kill}} {
		if err := c.end(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if s.PID() != 0 {
			t.Errorf("after %s the server has process %d", c.name, s.PID())
		}
		if _, err := pgx.Connect(ctx, s.DSN()); err == nil {
			t.Errorf("after %s the server takes connections", c.name)
		}
		if err := s.Start(ctx); err != nil {
			t.Fatalf("start after %s: %v", c.name, err)
		}
		if got := ask(t, s, "SELECT kept FROM kept"); got != "yes" {
			t.Errorf("after %s and start: %q, want what was stored", c.name, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left behind: %v", err)
	}
}

func ask(t *testing.T, s *Server, sql string) string {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	var out string
	if err := c.QueryRow(ctx, sql).Scan(&out); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}
