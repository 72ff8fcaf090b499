package cp

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// openAudit opens the audit log, which lives as long as the process. Lines are
// appended in one write each, so that the file may be rotated by copying and
// truncating it.
func openAudit(path string) (*slog.Logger, error) {
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
		out = f
	}
	return slog.New(slog.NewJSONHandler(out, nil)), nil
}
