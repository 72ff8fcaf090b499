package rest

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/auth"
)

// Outcomes in the audit log.
const (
	outcomeDone   = "done"
	outcomeDenied = "denied"
	outcomeFailed = "failed"
)

// record is what the audit log has of a request; endpoints add to it.
type record struct {
	mu    sync.Mutex
	attrs []slog.Attr
}

type recordKey struct{}

// noteAudit adds to what the audit log has of a request. Never pass it a secret.
func noteAudit(ctx context.Context, attrs ...slog.Attr) {
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		rec.mu.Lock()
		rec.attrs = append(rec.attrs, attrs...)
		rec.mu.Unlock()
	}
}

// audited writes one line for every write, every token that is issued, and every
// request that is denied.
func (a *API) audited(h http.Handler) http.Handler {
	if a.Audit == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &record{}
		s, ok := w.(*recorder)
		if !ok {
			s = &recorder{ResponseWriter: w}
		}
		h.ServeHTTP(s, r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
		reading := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		outcome := outcomeDone
		switch {
		case s.status == http.StatusUnauthorized, s.status == http.StatusForbidden:
			outcome = outcomeDenied
		case reading:
			return
		case s.status >= 400:
			outcome = outcomeFailed
		}
		rec.mu.Lock()
		defer rec.mu.Unlock()
		attrs := append([]slog.Attr{
			slog.String("outcome", outcome), slog.Int("status", s.status),
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("remote", r.RemoteAddr),
		}, rec.attrs...)
		if q := r.URL.RawQuery; q != "" {
			attrs = append(attrs, slog.String("query", q))
		}
		if rev := s.Header().Get(revisionHeader); rev != "" && !reading && s.status < 400 {
			attrs = append(attrs, slog.String("revision", rev))
		}
		a.Audit.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelInfo, "audit", attrs...)
	})
}

// noteCaller adds who called, once that is known.
func noteCaller(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := auth.UserFrom(r.Context())
		noteAudit(r.Context(), slog.String("user", u.Name), slog.Any("groups", u.Groups))
		h.ServeHTTP(w, r)
	})
}
