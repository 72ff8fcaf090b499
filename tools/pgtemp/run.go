package pgtemp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long the server gets for going away.
const patience = 20 * time.Second

// run is one life of the server's processes.
type run struct {
	process *os.Process
	ready   chan struct{} // closed when the log says so
	exited  chan struct{} // closed when the first process has ended
	gone    chan struct{} // closed when all have: they share the pipe of the log

	mu   sync.Mutex
	tail []string // newest lines of the log
}

// launch returns when the server is ready, or has failed.
func (s *Server) launch(ctx context.Context) (*run, error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// Not CommandContext: the server outlives the ctx of its start.
	cmd := s.command(context.WithoutCancel(ctx), "postgres", "-D", s.data())
	cmd.Stderr = pw
	cmd.Stdout = pw
	r := &run{ready: make(chan struct{}), exited: make(chan struct{}), gone: make(chan struct{})}
	go r.follow(pr)
	started := make(chan error, 1)
	go r.own(cmd, started)
	err = <-started
	pw.Close() // the server has its own
	if err != nil {
		return nil, fmt.Errorf("start postgres as %s: %w", s.identity.name, err)
	}
	select {
	case <-r.ready:
		return r, nil
	case <-r.exited:
		<-r.gone
		return nil, fmt.Errorf("postgres in %s ended while starting:\n%s", s.dir, r.log())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("start postgres: %w:\n%s", context.Cause(ctx), r.log()), r.end(syscall.SIGKILL))
	}
}

// own starts the process and stays on its thread until it ends, because the
// kernel ends the process when the thread that started it does.
func (r *run) own(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	r.process = cmd.Process
	started <- nil
	cmd.Wait() // how it ended is in its log
	close(r.exited)
}

func (r *run) follow(log *os.File) {
	defer close(r.gone)
	defer log.Close()
	ready := false
	for lines := bufio.NewReader(log); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		r.mu.Lock()
		if r.tail = append(r.tail, line); len(r.tail) > 40 {
			r.tail = r.tail[1:]
		}
		r.mu.Unlock()
		if !ready && strings.Contains(line, "database system is ready to accept connections") {
			ready = true
			close(r.ready)
		}
	}
}

func (r *run) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.tail, "\n")
}

// end sends the signal and waits until every process is gone.
func (r *run) end(sig syscall.Signal) error {
	if err := r.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-r.gone:
		<-r.exited
		return nil
	case <-time.After(patience):
		return fmt.Errorf("still running after %s:\n%s", patience, r.log())
	}
}

func (r *run) ended() bool {
	select {
	case <-r.exited:
		return true
	default:
		return false
	}
}
