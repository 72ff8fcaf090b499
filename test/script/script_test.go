// Package script runs scripts of atollctl against control planes: what users type
// and what they see, exit codes included.
package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/cp"
	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/ports"
)

// program builds atollctl, without the race detector: starting it is most of what
// it does here, and that takes long with it.
func program(t *testing.T) (folder string) {
	t.Helper()
	root, err := cluster.Repository()
	if err != nil {
		t.Fatal(err)
	}
	folder = t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", folder+"/", "./app/atollctl")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return folder
}

// TestScripts runs every script of testdata, each with a control plane of its own
// in $ATOLL_SERVER. Besides the usual commands there are
//
//	code N command...  run a command that has to exit with code N
//	looks FILE         compare the last output with a table, ages aside
//	keep NAME          put the last output into a variable
func TestScripts(t *testing.T) {
	bin := program(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			url, stop, err := controlPlane(e.WorkDir)
			if stop != nil {
				e.Defer(stop)
			}
			e.Setenv("ATOLL_SERVER", url)
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "contexts"))
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code, "looks": looks, "keep": keep},
	})
}

// startTime bounds the start of a control plane on a busy machine.
const startTime = 30 * time.Second

// settings of a zone of its own whose ports are free ones.
func settings(dir string, port []int) []string {
	return []string{
		"ATOLL_MODE=zone", "ATOLL_STORE_TYPE=memory", "ATOLL_GENERAL_WORK_DIR=" + dir,
		"ATOLL_API_SERVER_HTTP_INTERFACE=127.0.0.1", "ATOLL_API_SERVER_HTTPS_ENABLED=false",
		fmt.Sprintf("ATOLL_API_SERVER_HTTP_PORT=%d", port[0]),
		fmt.Sprintf("ATOLL_DP_SERVER_PORT=%d", port[1]),
		fmt.Sprintf("ATOLL_DIAGNOSTICS_SERVER_PORT=%d", port[2]),
		fmt.Sprintf("ATOLL_INTER_CP_SERVER_PORT=%d", port[3]),
		"ATOLL_MONITORING_ASSIGNMENT_SERVER_ENABLED=false",
	}
}

// controlPlane runs one inside this process until stop is called.
func controlPlane(workDir string) (url string, stop func(), err error) {
	port, err := ports.Free("127.0.0.1", 4)
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Join(workDir, "control-plane")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	env := settings(dir, port)
	if more, err := os.ReadFile(filepath.Join(workDir, "settings")); err == nil {
		env = append(env, strings.Fields(string(more))...)
	}
	cfg, _, err := config.Load("", env)
	if err != nil {
		return "", nil, err
	}
	if err := cfg.EnsureCertificate(); err != nil {
		return "", nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- cp.Run(ctx, cfg, slog.New(slog.DiscardHandler)) }()
	stop = func() { end(); <-ended }
	wait, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	ready := fmt.Sprintf("http://127.0.0.1:%d/ready", port[2])
	err = cluster.Until(wait, "the control plane is not ready", func(ctx context.Context) error {
		select {
		case err := <-ended:
			ended <- err
			cancel()
			return err
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ready, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	return fmt.Sprintf("http://127.0.0.1:%d", port[0]), stop, err
}

func code(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: code N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func keep(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

var (
	ages   = regexp.MustCompile(`\b\d+[smhd]\b`)
	spaces = regexp.MustCompile(` +`)
)

// looks compares tables; how long ago something was is not the same twice, and
// the width of columns depends on it.
func looks(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: looks FILE")
	}
	normal := func(text string) string {
		text = spaces.ReplaceAllString(ages.ReplaceAllString(text, "AGE"), " ")
		var lines []string
		for line := range strings.Lines(text) {
			lines = append(lines, strings.TrimSpace(line))
		}
		return strings.TrimSpace(strings.Join(lines, "\n"))
	}
	got, want := normal(ts.ReadFile("stdout")), normal(ts.ReadFile(args[0]))
	if got != want {
		ts.Fatalf("the output is\n%s\n\nwant\n%s", got, want)
	}
}
