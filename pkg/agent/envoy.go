package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// expectedEnvoy is the minor version that the configuration is written for.
const expectedEnvoy = "1.40"

// killAfter is how long an Envoy that was asked to end may take.
const killAfter = 5 * time.Second

// envoyVersion is what the binary says it is.
type envoyVersion struct {
	Version    string `json:"version"`
	Build      string `json:"build"`
	Compatible bool   `json:"kumaDpCompatible"`
}

// findEnvoy returns the path of the binary: as given or on PATH, else in the
// current folder, else beside this program.
func findEnvoy(binary string) (string, error) {
	if p, err := exec.LookPath(binary); err == nil {
		return filepath.Abs(p)
	}
	places := []string{"."}
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Dir(self))
	}
	for _, dir := range places {
		p, err := filepath.Abs(filepath.Join(dir, filepath.Base(binary)))
		if err != nil {
			continue
		}
		if info, err := os.Stat(p); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("envoy: no executable %q on PATH, in the current folder or beside this program; install Envoy or say where it is with --binary-path", binary)
}

// askVersion runs the binary to learn its version.
func askVersion(ctx context.Context, path string) (envoyVersion, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return envoyVersion{}, fmt.Errorf("%s --version: %w", path, err)
	}
	return parseVersion(string(out))
}

// parseVersion reads "envoy  version: <commit>/<version>/<state>/<kind>/<ssl>".
func parseVersion(text string) (envoyVersion, error) {
	_, build, ok := strings.Cut(text, "version:")
	build = strings.TrimSpace(build)
	parts := strings.Split(build, "/")
	if !ok || len(parts) != 5 {
		return envoyVersion{}, fmt.Errorf("envoy --version says %q, which is no version of Envoy", strings.TrimSpace(text))
	}
	v := envoyVersion{Version: parts[1], Build: build}
	v.Compatible = strings.HasPrefix(v.Version, expectedEnvoy+".")
	return v, nil
}

// process is one run of Envoy.
type process struct {
	pid     int
	started time.Time
	done    chan struct{} // closed at the end
	err     error         // how it ended; valid once done is closed
}

// logFlush is how long a line of an access log may wait for others before it is
// written; Envoy by itself lets it wait for ten seconds.
const logFlush = 100 * time.Millisecond

// args are those of the reference: no hot restart, since the agent replaces
// Envoy as a whole, and connections are told to go at once when draining.
func (c *Config) args(bootstrap string) []string {
	args := []string{
		"--config-path", bootstrap,
		"--drain-time-s", fmt.Sprint(int(c.DrainTime.Seconds())),
		"--drain-strategy", "immediate",
		"--file-flush-interval-msec", fmt.Sprint(logFlush.Milliseconds()),
		"--disable-hot-restart",
		"--log-level", c.Envoy.LogLevel,
	}
	if l := c.Envoy.ComponentLogLevel; l != "" {
		args = append(args, "--component-log-level", l)
	}
	if n := c.Envoy.Concurrency; n > 0 {
		args = append(args, "--concurrency", fmt.Sprint(n))
	} else if runtime.GOOS == "linux" {
		args = append(args, "--cpuset-threads")
	}
	return args
}

// startEnvoy starts a process in a group of its own, so that a terminal's
// interrupt reaches the agent alone, which then drains. It has inherited files as
// its descriptors from 3 on.
func startEnvoy(path string, args []string, env []string, inherited []*os.File, out, errs io.Writer) (*process, error) {
	p := &process{done: make(chan struct{})}
	result := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends, and Go
		// ends threads as it likes, so this one is kept for as long as Envoy runs.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := exec.Command(path, args...)
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, errs, inherited
		cmd.SysProcAttr = childAttributes()
		cmd.Env = append(os.Environ(), env...)
		if err := cmd.Start(); err != nil {
			result <- fmt.Errorf("envoy could not be started: %w", err)
			return
		}
		p.pid, p.started = cmd.Process.Pid, time.Now()
		result <- nil
		p.err = cmd.Wait()
		if p.err == nil {
			p.err = errors.New("exit status 0")
		}
		close(p.done)
	}()
	if err := <-result; err != nil {
		return nil, err
	}
	return p, nil
}

// stop asks the process to end, insists after a while, and waits for the end.
func (p *process) stop() {
	p.signal(syscall.SIGTERM)
	t := time.NewTimer(killAfter)
	defer t.Stop()
	select {
	case <-p.done:
		return
	case <-t.C:
	}
	p.signal(syscall.SIGKILL)
	<-p.done
}

func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done: // its number may be somebody else's by now
	default:
		_ = syscall.Kill(p.pid, s) // gone already is as good
	}
}
