package postgres

import "context"

// Scrub writes the tables anew without what was deleted or replaced, of which the
// old bytes otherwise stay in their files. Reads and writes wait. What the server
// itself keeps elsewhere, in its write-ahead log and in backups, is not touched.
func (s *Store) Scrub(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `VACUUM (FULL) atoll_record, atoll_log`)
	return s.wrap(ctx, "scrub", err)
}
