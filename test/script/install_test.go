package script

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/cli"
	"github.com/atoll-mesh/atoll/pkg/config"
)

// TestInstalledSettings: the settings that atollctl writes are ones that a control
// plane takes.
func TestInstalledSettings(t *testing.T) {
	for _, args := range [][]string{
		{"--mode", "zone", "--zone", "east"},
		{"--mode", "zone", "--zone", "east", "--kds-global-address", "grpcs://global:5685", "--kds-token-file", "/t", "--kds-root-ca-file", "/ca"},
		{"--mode", "global", "--env-var", "ATOLL_STORE_POSTGRES_HOST=db"},
	} {
		dir := t.TempDir()
		if code := cli.Main(append([]string{"install", "control-plane", "--output-dir", dir}, args...), nil, io.Discard, os.Stderr); code != 0 {
			t.Fatalf("%v: exit code %d", args, code)
		}
		text, err := os.ReadFile(filepath.Join(dir, "atoll", "atoll-cp.env"))
		if err != nil {
			t.Fatal(err)
		}
		cfg, warnings, err := config.Load("", strings.Fields(string(text)))
		if err != nil || len(warnings) > 0 || cfg.Mode != args[1] || cfg.General.WorkDir != "/var/lib/atoll" {
			t.Errorf("%v: mode %v, %v, %v", args, cfg, warnings, err)
		}
	}
}
