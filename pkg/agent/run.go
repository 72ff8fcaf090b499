package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Streams are where Envoy writes and where a Dataplane may come from.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

const (
	// steady is how long an Envoy runs before its next death counts as the first.
	steady = 30 * time.Second
	// hopeless is how soon after the very first start an exit means that Envoy
	// cannot run at all, so that starting it again is of no use.
	hopeless = 5 * time.Second
)

// Run does the agent's work until it is told to stop by a signal, which it reads
// from signals, or by the end of ctx, which skips draining. It returns nil when
// the agent was told to stop.
//
// SIGTERM and SIGINT drain Envoy and then stop it; a second one stops it at once.
// SIGUSR2 drains the inbound listeners only and lets Envoy run on.
func Run(ctx context.Context, c Config, signals <-chan os.Signal, io Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	doc, err := loadDocument(&c, io.In)
	if err != nil {
		return err
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	ca, err := c.ControlPlane.ca()
	if err != nil {
		return err
	}
	binary, err := findEnvoy(c.Envoy.Binary)
	if err != nil {
		return err
	}
	version, err := askVersion(ctx, binary)
	if err != nil {
		return err
	}
	if !version.Compatible {
		c.Log.Warn("this Envoy is not of the version that the configuration is written for", "is", version.Version, "expected", expectedEnvoy)
	}
	workdir, cleanUp, err := workDir(c.WorkDir)
	if err != nil {
		return err
	}
	defer cleanUp()
	request := c.request(doc, version, token, c.TokenFile, ca, workdir)
	if c.Token != "" {
		request.DataplaneTokenPath = filepath.Join(workdir, request.Name)
		if err := os.WriteFile(request.DataplaneTokenPath, []byte(token), 0o600); err != nil {
			return err
		}
	}
	answer, stopped, err := c.fetchUnlessStopped(ctx, signals, request, ca)
	if stopped || err != nil {
		return err
	}
	a, err := adminOf(answer.Bootstrap)
	if err != nil {
		return err
	}
	a.log = c.Log
	names, err := c.names(answer.Bootstrap)
	if err != nil {
		return err
	}
	file := filepath.Join(workdir, "bootstrap.yaml")
	if err := writePrivate(file, answer.Bootstrap); err != nil {
		return err
	}
	ready, err := startReadiness(ctx, a, readinessHost(a, answer.Sidecar.Networking.Address, c.Pod), c.ReadinessPort, c.Log)
	if err != nil {
		return err
	}
	defer ready.close()
	c.Log.Info("starting Envoy", "mesh", request.Mesh, "dataplane", request.Name, "binary", binary,
		"version", version.Version, "workDir", workdir, "readiness", ready.address)
	// For as long as Envoy runs, and not only until it is told to stop.
	answering, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	own := prometheus.NewRegistry()
	told := c.told(request, a)
	a.told = told
	background.Go(func() { c.answerQuestions(answering, a, request, ca) })
	background.Go(func() { c.probeZones(answering, request, ca) })
	watched := c.openTelemetry(request, a, answer.Sidecar.Networking.Address, own, told)
	background.Go(func() { watched.run(answering) })
	defer background.Wait()
	defer stop()
	s := &supervisor{c: &c, admin: a, ready: ready, signals: signals, leave: func(ctx context.Context) error {
		return c.leave(ctx, request, ca)
	}, start: func() (*process, error) {
		envoy, err := startEnvoy(binary, c.args(file), names, watched.inherited(), io.Out, io.Err)
		if err == nil {
			a.pid.Store(int64(envoy.pid))
		}
		return envoy, err
	}}
	return s.run(ctx)
}

// fetchUnlessStopped gets the bootstrap document, unless told to stop before.
func (c *Config) fetchUnlessStopped(ctx context.Context, signals <-chan os.Signal, r *bootstrapRequest, ca []byte) (answer *bootstrapAnswer, stopped bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err = c.fetch(ctx, r, ca)
	}()
	for {
		select {
		case <-done:
			return answer, false, err
		case s := <-signals:
			if s == syscall.SIGUSR2 {
				continue // nothing to drain yet
			}
			cancel()
			<-done
			return nil, true, nil
		}
	}
}

// workDir makes the folder for sockets and Envoy's configuration. Others may
// pass through it, to the sockets, but not list it.
func workDir(given string) (dir string, cleanUp func(), err error) {
	if given == "" {
		dir, err = os.MkdirTemp("", "atoll-dp-")
		if err != nil {
			return "", nil, err
		}
		return dir, func() { os.RemoveAll(dir) }, os.Chmod(dir, 0o711)
	}
	if dir, err = filepath.Abs(given); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", nil, fmt.Errorf("--work-dir: %w", err)
	}
	return dir, func() {}, nil
}

// writePrivate writes a file that holds secrets; an old one loses its content
// only when the new one is complete.
func writePrivate(name string, b []byte) error {
	next := name + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return err
	}
	return os.Rename(next, name)
}

// supervisor keeps one Envoy running.
type supervisor struct {
	c       *Config
	admin   *admin
	ready   *readiness
	signals <-chan os.Signal
	leave   func(context.Context) error // has others stop calling this proxy
	start   func() (*process, error)
	drained bool // inbound listeners were drained by SIGUSR2
}

func (s *supervisor) run(ctx context.Context) error {
	first := true
	for deaths := 0; ; {
		p, err := s.start()
		if err != nil {
			return err
		}
		stopped := s.watch(ctx, p)
		if stopped {
			p.stop()
			return nil
		}
		ran := time.Since(p.started)
		if s.c.Pod {
			return fmt.Errorf("envoy ended: %w", p.err)
		}
		if first && ran < hopeless && !killed(p.err) {
			return fmt.Errorf("envoy cannot run: %w; its own messages above say why", p.err)
		}
		first = false
		if ran >= steady {
			deaths = 0
		}
		pause := s.pause(deaths, ran)
		deaths++
		s.c.Log.Error("Envoy died; starting it again", "cause", p.err, "after", ran.Round(time.Millisecond), "in", pause)
		if !s.wait(ctx, pause) {
			return nil
		}
	}
}

// killed reports whether a process ended by a signal and not by its own decision.
func killed(err error) bool {
	var exit interface{ Sys() any }
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// pause is the time before the next start: none after the first death. After
// more of them it is what keeps starts apart by a time that doubles, so that an
// Envoy that ran for longer than that is started at once: its workload has no
// network until then.
func (s *supervisor) pause(deaths int, ran time.Duration) time.Duration {
	if deaths == 0 {
		return 0
	}
	apart := min(s.c.BaseBackoff<<min(deaths-1, 16), s.c.MaxBackoff)
	return max(0, apart-ran)
}

// wait returns false when the agent was told to stop meanwhile.
func (s *supervisor) wait(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		case sig := <-s.signals:
			if sig != syscall.SIGUSR2 {
				return false
			}
		}
	}
}

// watch returns when the process has ended, or true when it is to be stopped.
func (s *supervisor) watch(ctx context.Context, p *process) (stop bool) {
	for {
		select {
		case <-p.done:
			return false
		case <-ctx.Done():
			return true
		case sig := <-s.signals:
			if sig == syscall.SIGUSR2 {
				s.drainInbound(ctx)
				continue
			}
			s.drain(ctx, p)
			return true
		}
	}
}

// drainInbound lets connections to the workload end while Envoy runs on, for a
// container that is stopped before the others.
func (s *supervisor) drainInbound(ctx context.Context) {
	s.ready.terminating.Store(true)
	if err := s.admin.post(ctx, "/drain_listeners?inboundonly&graceful&skip_exit"); err != nil {
		s.c.Log.Error("inbound listeners could not be drained", "error", err)
		return
	}
	s.drained = true
	s.c.Log.Info("inbound listeners drain; Envoy runs on")
}

// drain tells everybody who watches this proxy that it goes, and gives them the
// drain time to turn elsewhere.
func (s *supervisor) drain(ctx context.Context, p *process) {
	s.ready.terminating.Store(true)
	if s.drained {
		return
	}
	if s.leave != nil {
		if err := s.leave(ctx); err != nil {
			// Others notice when this proxy is gone.
			s.c.Log.Warn("the control plane was not told that this proxy stops", "error", err)
		}
	}
	if err := s.admin.post(ctx, "/healthcheck/fail"); err != nil {
		s.c.Log.Error("Envoy could not be told to drain; stopping it", "error", err)
		return
	}
	s.c.Log.Info("draining", "for", s.c.DrainTime)
	t := time.NewTimer(s.c.DrainTime)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return
		case <-p.done:
			return
		case <-ctx.Done():
			return
		case sig := <-s.signals:
			if sig != syscall.SIGUSR2 {
				s.c.Log.Info("told to stop again; not waiting any longer")
				return
			}
		}
	}
}
