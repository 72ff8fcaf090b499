package cp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/atoll-mesh/atoll/pkg/auth"
)

// openAudit opens the audit log, which lives as long as the process. Lines are
// appended in one write each, so that the file may be rotated by copying and
// truncating it. That lines are lost is told to log.
func openAudit(path string, log *slog.Logger) (*slog.Logger, error) {
	var out io.Writer = os.Stderr
	switch path {
	case "":
		return nil, nil
	case "stderr":
	default:
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("access.audit.path: %w", err)
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("access.audit.path: %w", err)
		}
		out = &witness{out: f, path: path, log: log}
	}
	return slog.New(slog.NewJSONHandler(out, nil)), nil
}

// witness tells when lines of the audit log cannot be written, such as on a full
// disk, and how many were lost when they can again: who writes them does not look.
type witness struct {
	out  io.Writer
	path string
	log  *slog.Logger

	mu   sync.Mutex
	lost int
}

// Write implements io.Writer.
func (w *witness) Write(line []byte) (int, error) {
	n, err := w.out.Write(line)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil:
		if w.lost++; w.lost == 1 {
			w.log.Error("the audit log cannot be written; lines are lost until it can", "file", w.path, "error", err)
		}
	case w.lost > 0:
		w.log.Error("the audit log can be written again", "file", w.path, "lost", w.lost)
		w.lost = 0
	}
	return n, err
}

// mostUses bounds the lines about tokens in one period.
const mostUses = 10000

// auditTokens returns what writes the first use of each token in each period to
// the audit log, or nil when it is not to be kept. That a user token was refused
// stands there already, with the request.
func auditTokens(audit *slog.Logger, period time.Duration) func(auth.Use) {
	if audit == nil || period <= 0 {
		return nil
	}
	uses := auth.NewUses(period, mostUses, nil, func(u auth.Use, missed int) {
		attrs := []slog.Attr{slog.String("token", u.Kind)}
		if u.Err != nil {
			attrs = append(attrs, slog.String("outcome", "denied"), slog.String("reason", u.Err.Error()))
		} else {
			attrs = append(attrs, slog.String("outcome", "used"), slog.String("subject", u.Subject), slog.String("id", u.ID), slog.Time("expires", u.Expires))
		}
		if missed > 0 {
			attrs = append(attrs, slog.Int("notListed", missed))
		}
		audit.LogAttrs(context.Background(), slog.LevelInfo, "token", attrs...)
	})
	return func(u auth.Use) {
		if u.Kind == auth.TokenUser && u.Err != nil {
			return
		}
		uses.Note(u)
	}
}
