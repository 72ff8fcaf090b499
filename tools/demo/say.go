package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
)

// teller says what happens, in plain words.
type teller struct {
	w        io.Writer
	terminal bool
	begun    time.Time
	steps    int
}

// step is one thing that the demo does.
type step struct {
	title string // what will be done, and why
	do    func(context.Context) error
}

func newTeller(f *os.File) *teller {
	return &teller{w: f, terminal: isatty.IsTerminal(f.Fd()), begun: time.Now()}
}

func (t *teller) elapsed() time.Duration { return time.Since(t.begun).Round(time.Second) }

func (t *teller) bold(s string) string {
	if !t.terminal {
		return s
	}
	return "\x1b[1m" + s + "\x1b[0m"
}

func (t *teller) line(format string, args ...any) { fmt.Fprintf(t.w, format+"\n", args...) }

// note reports a result within a step.
func (t *teller) note(format string, args ...any) { t.line("    "+format, args...) }

func (t *teller) step(ctx context.Context, s step) error {
	t.steps++
	t.line("\n%s", t.bold(fmt.Sprintf("%d. %s", t.steps, s.title)))
	begun := time.Now()
	if err := s.do(ctx); err != nil {
		return err
	}
	t.note("done in %.1f s", time.Since(begun).Seconds())
	return nil
}

func (t *teller) failed(err error) {
	t.line("\n%s %s", t.bold("It did not work:"), strings.ReplaceAll(err.Error(), "\n", "\n    "))
}
