package store

import "fmt"

// Resumable tells whether a log that has forgotten the commits up to compacted,
// and whose newest is head, can be read after a revision. A revision beyond head
// means that the database was put back to an earlier state: what the reader has
// is not what is stored, so it gets ErrCompacted too.
func Resumable(after, compacted, head Revision) error {
	switch {
	case after < compacted:
		return fmt.Errorf("read after revision %d: %w up to revision %d; take a snapshot", after, ErrCompacted, compacted)
	case after > head:
		return fmt.Errorf("read after revision %d: the newest is %d, the database was reset: %w; take a snapshot", after, head, ErrCompacted)
	}
	return nil
}
