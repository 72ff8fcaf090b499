package cp

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// disk is full for a while.
type disk struct {
	bytes.Buffer
	full bool
}

func (d *disk) Write(b []byte) (int, error) {
	if d.full {
		return 0, errors.New("no space left on device")
	}
	return d.Buffer.Write(b)
}

func TestLostLinesOfTheAuditLog(t *testing.T) {
	var said bytes.Buffer
	d := &disk{}
	audit := slog.New(slog.NewJSONHandler(&witness{out: d, path: "/audit", log: slog.New(slog.NewTextHandler(&said, nil))}, nil))
	audit.Info("first")
	d.full = true
	for range 3 {
		audit.Info("lost")
	}
	if got := strings.Count(said.String(), "\n"); got != 1 || !strings.Contains(said.String(), "no space left") {
		t.Errorf("told of a full disk: %s", &said)
	}
	said.Reset()
	d.full = false
	audit.Info("second")
	audit.Info("third")
	if !strings.Contains(said.String(), "lost=3") || strings.Count(said.String(), "\n") != 1 {
		t.Errorf("told of the end: %s", &said)
	}
	if got := strings.Count(d.String(), "\n"); got != 3 {
		t.Errorf("%d lines are there: %s", got, d)
	}
}
