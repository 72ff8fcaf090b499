// Package pgtemp runs a private PostgreSQL server for tests, the demo and
// benchmarks: a new cluster in a temporary folder, on a loopback port, with a
// random password, never as root, gone when it is closed or its parent dies.
package pgtemp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/atoll-mesh/atoll/test/ports"
)

// Options may be zero.
type Options struct {
	// Parent is the folder in which the cluster gets a folder of its own. The user
	// that runs the server must be able to enter it. Empty: os.TempDir.
	Parent string
	// Settings are added to postgresql.conf, for example "fsync": "off".
	Settings map[string]string
}

// Server is a cluster, and its server while that runs. Methods may be called
// concurrently.
type Server struct {
	host, user, password, dbName string
	port                         int

	bin      string // folder of the programs
	dir      string // holds "data"
	identity *identity

	mu  sync.Mutex
	run *run // nil: stopped
}

// Start makes a cluster and starts its server. It takes about two seconds.
func Start(ctx context.Context, opts Options) (*Server, error) {
	bin, err := find(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{host: "127.0.0.1", user: "atoll", password: rand.Text(), dbName: "atoll", bin: bin}
	if s.identity, err = unprivileged(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp(opts.Parent, "atoll-postgres-"); err != nil {
		return nil, err
	}
	if err := s.create(ctx, opts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) create(ctx context.Context, opts Options) error {
	if err := s.identity.own(s.dir); err != nil {
		return err
	}
	if err := s.initdb(ctx); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		free, err := ports.Free("127.0.0.1", 1)
		if err != nil {
			return err
		}
		s.port = free[0]
		if err = s.configure(opts.Settings); err != nil {
			return err
		}
		// Somebody may have taken the port since it was seen free.
		if err = s.start(ctx); err == nil {
			break
		}
		if attempt == 3 || !strings.Contains(err.Error(), "could not create any TCP/IP sockets") {
			return err
		}
	}
	return s.createDatabase(ctx)
}

func (s *Server) initdb(ctx context.Context) error {
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(s.password), 0o600); err != nil {
		return err
	}
	if err := s.identity.own(secret); err != nil {
		return err
	}
	cmd := s.command(ctx, "initdb", "-D", s.data(), "-U", s.user, "-A", "scram-sha-256", "--pwfile", secret,
		"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb as %s in %s: %w\n%s", s.identity.name, s.dir, err, out)
	}
	return os.Remove(secret)
}

func (s *Server) configure(settings map[string]string) error {
	var b strings.Builder
	set := func(k, v string) { fmt.Fprintf(&b, "%s = '%s'\n", k, strings.ReplaceAll(v, "'", "''")) }
	set("listen_addresses", s.host)
	set("port", strconv.Itoa(s.port))
	set("unix_socket_directories", "")
	set("log_destination", "stderr") // where start reads that the server is ready
	set("logging_collector", "off")
	set("lc_messages", "C")
	for k, v := range settings {
		set(k, v)
	}
	conf := filepath.Join(s.data(), "postgresql.auto.conf") // read after postgresql.conf
	if err := os.WriteFile(conf, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return s.identity.own(conf)
}

// createDatabase goes through the single-user way in, so that this package
// needs no client.
func (s *Server) createDatabase(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	cmd := s.command(ctx, "postgres", "--single", "-D", s.data(), "postgres")
	cmd.Stdin = strings.NewReader("CREATE DATABASE " + s.dbName + "\n")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "ERROR") {
		return fmt.Errorf("create database %s: %w\n%s", s.dbName, err, out)
	}
	return s.start(ctx)
}

func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=" + s.dir}
	cmd.SysProcAttr = s.identity.attributes()
	return cmd
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Host, Port, User, Password and DBName are what a client needs; TLS is off.
func (s *Server) Host() string     { return s.host }
func (s *Server) Port() int        { return s.port }
func (s *Server) User() string     { return s.user }
func (s *Server) Password() string { return s.password }
func (s *Server) DBName() string   { return s.dbName }

// DSN gives the same as a URL.
func (s *Server) DSN() string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(s.user, s.password),
		Host: net.JoinHostPort(s.host, strconv.Itoa(s.port)), Path: s.dbName, RawQuery: "sslmode=disable",
	}).String()
}

// PID is the server's first process, or 0 while it is stopped. Whoever kills that
// calls Start afterwards as if Kill had been called.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.run.ended() {
		return 0
	}
	return s.run.process.Pid
}

// Start starts a server that was stopped, on the same port with the same data,
// and returns when it takes connections.
func (s *Server) Start(ctx context.Context) error { return s.start(ctx) }

func (s *Server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil && !s.run.ended() {
		return nil
	}
	for {
		r, err := s.launch(ctx)
		if err == nil {
			s.run = r
			return nil
		}
		// After a kill the last processes of the old server may still be going.
		if ctx.Err() != nil || !strings.Contains(err.Error(), "pre-existing shared memory block") && !strings.Contains(err.Error(), "lock file") {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Stop shuts the server down in good order, ending its sessions.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Abort ends the server at once, as after a crash: it recovers at the next start.
func (s *Server) Abort() error { return s.end(syscall.SIGQUIT) }

// Kill ends the server with SIGKILL. Its sessions notice and end by themselves.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Restart is Stop and Start.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Close ends the server and deletes its data.
func (s *Server) Close() error {
	return errors.Join(s.Abort(), os.RemoveAll(s.dir))
}

func (s *Server) end(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return nil
	}
	if err := s.run.end(sig); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	s.run = nil
	return nil
}
