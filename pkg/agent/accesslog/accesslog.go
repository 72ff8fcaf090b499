// Package accesslog sends lines that Envoy writes into a pipe to where they
// belong: each line says to which address.
package accesslog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	dialTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second
	// queue is how many lines wait for one address. More are dropped: logs must
	// never hold back traffic.
	queue   = 4096
	maxLine = 1 << 20
)

// Streamer reads a pipe.
type Streamer struct {
	log  *slog.Logger
	pipe *os.File

	mu    sync.Mutex
	sinks map[string]*sink
}

// Open makes the pipe, which has to be there before Envoy opens it. A pipe that
// is there is used again.
func Open(path string, log *slog.Logger) (*Streamer, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeNamedPipe == 0 {
		if err := os.Remove(path); err != nil { // a file that an Envoy without its agent made
			return nil, err
		}
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil && !errors.Is(err, syscall.EEXIST) {
		return nil, fmt.Errorf("pipe for access logs %s: %w", path, err)
	}
	// Open for both, so that there is no end of file while nobody writes.
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("pipe for access logs: %w", err)
	}
	return &Streamer{log: log, pipe: f, sinks: map[string]*sink{}}, nil
}

// File is the pipe, for a process that inherits it.
func (s *Streamer) File() *os.File { return s.pipe }

// Run sends lines on until ctx ends.
func (s *Streamer) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = s.pipe.SetReadDeadline(time.Now()) })
	defer stop()
	var sinks sync.WaitGroup
	defer func() { _ = s.pipe.Close() }()
	defer sinks.Wait()
	in := bufio.NewReaderSize(s.pipe, 64<<10)
	for {
		line, err := readLine(in)
		if line != "" {
			if address, message, ok := parse(line); ok {
				s.sink(ctx, &sinks, address).put(message)
			}
		}
		if err != nil {
			return // the deadline
		}
	}
}

// readLine leaves out lines that are too long to be any.
func readLine(in *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		part, more, err := in.ReadLine()
		if b.Len()+len(part) <= maxLine {
			b.Write(part)
		}
		if err != nil || !more {
			return b.String(), err
		}
	}
}

// parse reads {"address": …, "message": …}, or the older address;message.
func parse(line string) (address string, message []byte, ok bool) {
	if !strings.HasPrefix(line, "{") {
		address, text, ok := strings.Cut(line, ";")
		return address, []byte(text + "\n"), ok && address != ""
	}
	var doc struct {
		Address string          `json:"address"`
		Message json.RawMessage `json:"message"`
	}
	if json.Unmarshal([]byte(line), &doc) != nil || doc.Address == "" || len(doc.Message) == 0 {
		return "", nil, false
	}
	var text string
	if json.Unmarshal(doc.Message, &text) == nil {
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return doc.Address, []byte(text), true
	}
	return doc.Address, append([]byte(doc.Message), '\n'), true
}

// sink is one address.
type sink struct {
	lines   chan []byte
	dropped func()
}

func (s *Streamer) sink(ctx context.Context, running *sync.WaitGroup, address string) *sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sinks[address]; x != nil {
		return x
	}
	var once sync.Once
	x := &sink{lines: make(chan []byte, queue), dropped: func() {
		once.Do(func() { s.log.Warn("access logs are dropped: they come faster than they can be sent", "to", address) })
	}}
	s.sinks[address] = x
	running.Go(func() { s.send(ctx, address, x.lines) })
	return x
}

func (x *sink) put(line []byte) {
	select {
	case x.lines <- line:
	default:
		x.dropped()
	}
}

// send keeps one connection and makes another when it breaks. Lines that cannot
// be sent are dropped.
func (s *Streamer) send(ctx context.Context, address string, lines <-chan []byte) {
	var conn net.Conn
	var failed string
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	report := func(err error) {
		if text := err.Error(); ctx.Err() == nil && text != failed {
			failed = text
			s.log.Warn("access logs cannot be sent", "to", address, "error", err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case line := <-lines:
			// The other side may have closed the connection meanwhile.
			for attempt := range 2 {
				if conn == nil {
					c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
					if err != nil {
						report(err)
						break
					}
					conn, failed = c, ""
					go func() { // ends with the connection
						_, _ = io.Copy(io.Discard, c)
						_ = c.Close()
					}()
				}
				_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
				_, err := conn.Write(line)
				if err == nil {
					break
				}
				_ = conn.Close()
				conn = nil
				if attempt > 0 {
					report(err)
				}
			}
		}
	}
}
