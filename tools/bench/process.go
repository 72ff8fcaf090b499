package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/atoll-mesh/atoll/test/ports"
)

// controlPlane is a control plane under load: a process of its own, so that its
// memory and CPU are not mixed with those of the generator.
type controlPlane struct {
	dir  string
	env  []string
	cmd  *exec.Cmd
	done chan struct{}
	api  string // URL of REST
	dp   string // host:port of the dataplane server
	kds  string // host:port of KDS, of a global
	diag string // URL of diagnostics
}

// startControlPlane runs atoll-cp with fresh state and returns when it is ready.
func startControlPlane(ctx context.Context, env map[string]string) (*controlPlane, error) {
	dir, err := os.MkdirTemp("", "atoll-bench-")
	if err != nil {
		return nil, err
	}
	port, err := ports.Free("127.0.0.1", 5)
	if err != nil {
		return nil, err
	}
	cp := &controlPlane{
		dir:  dir,
		api:  fmt.Sprintf("http://127.0.0.1:%d", port[0]),
		dp:   fmt.Sprintf("127.0.0.1:%d", port[2]),
		kds:  fmt.Sprintf("127.0.0.1:%d", port[3]),
		diag: fmt.Sprintf("http://127.0.0.1:%d", port[4]),
	}
	settings := map[string]string{
		"GENERAL_WORK_DIR":                  dir,
		"LOG_LEVEL":                         "warn",
		"API_SERVER_HTTP_PORT":              strconv.Itoa(port[0]),
		"API_SERVER_HTTP_INTERFACE":         "127.0.0.1",
		"API_SERVER_HTTPS_PORT":             strconv.Itoa(port[1]),
		"API_SERVER_HTTPS_INTERFACE":        "127.0.0.1",
		"DP_SERVER_PORT":                    strconv.Itoa(port[2]),
		"MULTIZONE_GLOBAL_KDS_GRPC_PORT":    strconv.Itoa(port[3]),
		"DIAGNOSTICS_SERVER_PORT":           strconv.Itoa(port[4]),
		"DIAGNOSTICS_DEBUG_ENDPOINTS":       "true",
		"STORE_TYPE":                        "sqlite",
		"DP_SERVER_AUTHN_DP_PROXY_TYPE":     "none",
		"MULTIZONE_GLOBAL_KDS_AUTH_TYPE":    "none",
		"MULTIZONE_GLOBAL_KDS_TLS_ENABLED":  "false",
		"MONITORING_ASSIGNMENT_SERVER_PORT": "0",
	}
	for k, v := range env {
		settings[k] = v
	}
	cp.env = append(cp.env, os.Environ()...)
	for k, v := range settings {
		cp.env = append(cp.env, "ATOLL_"+k+"="+v)
	}
	if err := cp.start(ctx); err != nil {
		return nil, err
	}
	return cp, nil
}

// start runs the process on the state that is there, and returns when it is ready.
func (cp *controlPlane) start(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cp.done = make(chan struct{})
	cp.cmd = exec.Command(filepath.Join(filepath.Dir(exe), "atoll-cp"), "run")
	cp.cmd.Env = cp.env
	logFile, err := os.Create(filepath.Join(cp.dir, "log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	cp.cmd.Stdout, cp.cmd.Stderr = logFile, logFile
	// The control plane must not outlive a generator that is killed.
	cp.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cp.cmd.Start(); err != nil {
		return fmt.Errorf("start atoll-cp (run 'make build' first): %w", err)
	}
	cmd, done := cp.cmd, cp.done
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(done)
	}()
	for {
		resp, err := http.Get(cp.diag + "/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-cp.done:
			return fmt.Errorf("atoll-cp ended at start:\n%s", cp.lastLog())
		case <-ctx.Done():
			cp.stop()
			return fmt.Errorf("atoll-cp was not ready in time:\n%s", cp.lastLog())
		case <-time.After(20 * time.Millisecond): // there is nothing to wait on before it listens
		}
	}
}

func (cp *controlPlane) lastLog() string {
	b, err := os.ReadFile(filepath.Join(cp.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

func (cp *controlPlane) stop() {
	cp.kill()
	os.RemoveAll(cp.dir)
}

func (cp *controlPlane) kill() {
	_ = cp.cmd.Process.Kill() // it may have ended by itself
	<-cp.done
}

// profile saves a profile of the control plane: of the CPU, as long as d lasts, or
// of memory when d is 0.
func (cp *controlPlane) profile(ctx context.Context, file string, d time.Duration) error {
	url := cp.diag + "/debug/pprof/heap?gc=1"
	if d > 0 {
		url = fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", cp.diag, int(d.Seconds()))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return os.WriteFile(file, b, 0o644)
}

// profileSelf profiles the CPU of the generator until stop is called.
func profileSelf(file string) (stop func(), err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// usage is what a process consumed so far.
type usage struct {
	cpu  time.Duration
	peak float64 // resident memory, MB
	rss  float64
}

func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	// Fields after the command, which ends with the last parenthesis; 14 and 15 of
	// proc(5) are user and system time in ticks of 10 ms.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return usage{}, err
		}
		ticks += n
	}
	u := usage{cpu: time.Duration(ticks) * 10 * time.Millisecond}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		if name != "VmHWM" && name != "VmRSS" {
			continue
		}
		kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			return usage{}, err
		}
		if name == "VmHWM" {
			u.peak = kb / 1024
		} else {
			u.rss = kb / 1024
		}
	}
	return u, nil
}

func (cp *controlPlane) usage() (usage, error) { return usageOf(cp.cmd.Process.Pid) }

// idle is the share of one core that the process uses while nothing happens.
func (cp *controlPlane) idle(ctx context.Context, d time.Duration) (float64, error) {
	before, err := cp.usage()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	select {
	case <-time.After(d): // the measurement itself
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := cp.usage()
	return 100 * float64(after.cpu-before.cpu) / float64(time.Since(start)), err
}

// put writes a resource and returns when the control plane has answered.
func (cp *controlPlane) put(ctx context.Context, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, cp.api+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("PUT %s: %s: %s", path, resp.Status, answer)
	}
	return nil
}

var selfPID = os.Getpid()

var errTimeout = errors.New("not reached in time")
