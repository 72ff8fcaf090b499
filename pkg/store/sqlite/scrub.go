package sqlite

import (
	"context"
	"fmt"
)

// Scrub writes the file anew without what was deleted or replaced, of which the
// old bytes otherwise stay in it until they are overwritten. Writes wait.
func (s *Store) Scrub(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The first folds the write-ahead log in, so that VACUUM starts from the
	// newest pages; the last empties it again.
	for _, stmt := range []string{`PRAGMA wal_checkpoint(TRUNCATE)`, `VACUUM`, `PRAGMA wal_checkpoint(TRUNCATE)`} {
		if _, err := s.out.conn.ExecContext(ctx, stmt); err != nil {
			return s.wrap(ctx, fmt.Errorf("scrub: %s: %w", stmt, err))
		}
	}
	return nil
}
