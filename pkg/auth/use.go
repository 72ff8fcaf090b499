package auth

import (
	"sync"
	"time"
)

// Kinds of tokens.
const (
	TokenUser      = "user"
	TokenDataplane = "dataplane"
	TokenZone      = "zone"
)

// Use is that somebody presented a token. Of one that is invalid nothing but its
// kind and the reason are known: what it claims is anybody's text.
type Use struct {
	Kind    string
	ID      string // jti
	Subject string // user, zone, or mesh and what else binds a dataplane token
	Expires time.Time
	Err     error // why it is invalid; nil: it is valid
}

// Uses passes on the first use of each token in each period, and the first of
// each reason for refusing one, at most limit of them; how many more there were
// it says with the first use of the next period. It is safe for concurrent use.
type Uses struct {
	period time.Duration
	limit  int
	now    func() time.Time
	tell   func(u Use, missed int)

	mu     sync.Mutex
	until  time.Time
	seen   map[useKey]struct{}
	missed int
}

type useKey struct{ kind, id, subject, reason string }

// NewUses makes a Uses. Nil now is time.Now.
func NewUses(period time.Duration, limit int, now func() time.Time, tell func(u Use, missed int)) *Uses {
	if now == nil {
		now = time.Now
	}
	return &Uses{period: period, limit: limit, now: now, tell: tell}
}

// Note is told about every use of a token.
func (u *Uses) Note(use Use) {
	if missed, first := u.first(use); first {
		u.tell(use, missed)
	}
}

func (u *Uses) first(use Use) (missed int, first bool) {
	key := useKey{kind: use.Kind, id: use.ID, subject: use.Subject}
	if use.Err != nil {
		key.reason = use.Err.Error()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := u.now(); u.seen == nil || !now.Before(u.until) {
		missed, u.missed = u.missed, 0
		u.until, u.seen = now.Add(u.period), map[useKey]struct{}{}
	}
	if _, ok := u.seen[key]; ok {
		return 0, false
	}
	if len(u.seen) >= u.limit {
		u.missed++
		return 0, false
	}
	u.seen[key] = struct{}{}
	return missed, true
}
