package cp

import (
	"bufio"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// auditLines reads an audit log.
func auditLines(t *testing.T, path string) (lines []map[string]any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		lines = append(lines, line)
	}
	return lines
}

// The audit log is appended to, also by the next process, and only its owner
// reads it.
func TestAuditIsAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "audit.log")
	for _, text := range []string{"first", "second"} {
		log, err := openAudit(path, slog.Default())
		if err != nil {
			t.Fatal(err)
		}
		log.Info(text)
	}
	if lines := auditLines(t, path); len(lines) != 2 || lines[0]["msg"] != "first" || lines[1]["msg"] != "second" {
		t.Errorf("%v", lines)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if log, err := openAudit("", slog.Default()); log != nil || err != nil {
		t.Errorf("without a path: %v, %v", log, err)
	}
	if _, err := openAudit(filepath.Join(path, "below-a-file"), slog.Default()); err == nil {
		t.Error("a path that cannot be opened went unnoticed")
	}
}

func TestTokenUseIsAudited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	log, err := openAudit(path, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	used := auditTokens(log, time.Hour)
	ends := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 3 {
		used(auth.Use{Kind: auth.TokenUser, ID: "id-1", Subject: "jane", Expires: ends})
		used(auth.Use{Kind: auth.TokenZone, Err: errors.New("it was revoked")})
		used(auth.Use{Kind: auth.TokenUser, Err: errors.New("the request is noted as denied")})
	}
	lines := auditLines(t, path)
	if len(lines) != 2 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for key, want := range map[string]any{"msg": "token", "token": "user", "outcome": "used", "subject": "jane", "id": "id-1", "expires": "2030-01-02T03:04:05Z"} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
	if lines[1]["outcome"] != "denied" || lines[1]["reason"] != "it was revoked" || lines[1]["token"] != "zone" {
		t.Errorf("%v", lines[1])
	}
	if auditTokens(nil, time.Hour) != nil || auditTokens(log, 0) != nil {
		t.Error("uses are noted where nobody asked for them")
	}
}

// The settings of access reach the rules that they name.
func TestAccessSettings(t *testing.T) {
	cfg := config.Default()
	grant := func(name string) config.Grant { return config.Grant{Users: []string{name}} }
	s := &cfg.Access.Static
	s.AdminResources, s.GenerateDPToken, s.GenerateUserToken, s.GenerateZoneToken = grant("a"), grant("b"), grant("c"), grant("d")
	s.ViewConfigDump, s.ViewStats, s.ViewClusters, s.ControlPlaneMetadata = grant("e"), grant("f"), grant("g"), grant("h")
	cfg.Access.Roles = []config.RoleBinding{{Role: "viewer", Groups: []string{"devs"}, Meshes: []string{"m"}, Zones: []string{"z"}}}
	access := (&plane{cfg: cfg}).access()
	secret := resource.NewKinds(kind.All()...).ByType(kind.GlobalSecret)
	for name, allowed := range map[string]func(auth.User) error{
		"a": func(u auth.User) error { return access.Resource(u, auth.Read, secret) },
		"b": func(u auth.User) error { return access.DPToken(u, nil) },
		"c": access.UserToken,
		"d": func(u auth.User) error { return access.ZoneToken(u, nil) },
		"e": access.ConfigDump, "f": access.Stats, "g": access.Clusters, "h": access.Metadata,
	} {
		for _, user := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			err := allowed(auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}})
			if denied := new(auth.DeniedError); (err == nil) != (user == name) || err != nil && !errors.As(err, &denied) {
				t.Errorf("what %s may: user %s gets %v", name, user, err)
			}
		}
	}
	if r := access.Roles; len(r) != 1 || r[0].Role != "viewer" || r[0].Groups[0] != "devs" || r[0].Meshes[0] != "m" || r[0].Zones[0] != "z" {
		t.Errorf("roles %+v", r)
	}
	for setting, want := range map[string][2]bool{config.AnonymousNone: {}, config.AnonymousRead: {true, false}, config.AnonymousWrite: {true, true}} {
		cfg.Access.Anonymous = setting
		a := (&plane{cfg: cfg}).access()
		if got := [2]bool{a.AnonymousRead, a.AnonymousWrite}; got != want {
			t.Errorf("anonymous %s: read, write %v", setting, got)
		}
	}
}
