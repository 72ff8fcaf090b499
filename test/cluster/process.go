package cluster

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// stopTime is how long a process may take to stop.
const stopTime = 15 * time.Second

// Process is a program that can be run again and again. Its output goes to
// <name>.log in the cluster's folder.
type Process struct {
	Name string
	Log  string // file

	path string
	args []string
	env  []string

	mu  sync.Mutex // guards run
	run *run
}

// run is one life of a process.
type run struct {
	pid  int
	done chan struct{} // closed at the end
	err  error
}

// Process adds a program, which is not started yet. env is added to the
// environment of this process.
func (c *Cluster) Process(name string, env []string, path string, args ...string) *Process {
	p := &Process{Name: name, Log: filepath.Join(c.Dir, name+".log"), path: path, args: args, env: env}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes = append(c.processes, p)
	return p
}

// Start runs the program, which must not be running.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil && !p.run.over() {
		return fmt.Errorf("%s runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	r := &run{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The child dies with the thread that started it, so the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		cmd := exec.Command(p.path, p.args...)
		cmd.Env = append(os.Environ(), p.env...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = attributes()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("%s: %w", p.Name, err)
			return
		}
		r.pid = cmd.Process.Pid
		started <- nil
		r.err = cmd.Wait()
		close(r.done)
	}()
	if err := <-started; err != nil {
		return err
	}
	p.run = r
	return nil
}

func (r *run) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// PID is the number of the process, 0 when it does not run.
func (p *Process) PID() int {
	if r := p.current(); r != nil && !r.over() {
		return r.pid
	}
	return 0
}

// Exited returns an error when the process has ended, by itself or not.
func (p *Process) Exited() error {
	r := p.current()
	if r == nil {
		return fmt.Errorf("%s was not started", p.Name)
	}
	if !r.over() {
		return nil
	}
	return fmt.Errorf("%s ended (%v); the end of its log:\n%s", p.Name, r.err, p.Tail(2000))
}

// Signal sends a signal if the process runs.
func (p *Process) Signal(s syscall.Signal) {
	if pid := p.PID(); pid != 0 {
		_ = syscall.Kill(pid, s) // ended meanwhile: as good
	}
}

// Kill ends the process at once, as a crash does, and waits for its end.
func (p *Process) Kill() {
	r := p.current()
	if r == nil {
		return
	}
	p.Signal(syscall.SIGKILL)
	<-r.done
}

// Stop asks the process to end, waits, and kills it when it does not.
func (p *Process) Stop() error {
	r := p.current()
	if r == nil {
		return nil
	}
	p.Signal(syscall.SIGTERM)
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-r.done:
		return nil
	case <-t.C:
		p.Kill()
		return fmt.Errorf("%s did not stop within %s", p.Name, stopTime)
	}
}

// Tail returns the last bytes of the log.
func (p *Process) Tail(n int64) string {
	f, err := os.Open(p.Log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return string(b)
}
