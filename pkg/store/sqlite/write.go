package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/group"
	"github.com/atoll-mesh/atoll/pkg/store/lease"
)

// errCommit marks a failed COMMIT, after which nobody knows what the disk has.
var errCommit = errors.New("the commit failed")

// compactPortion is how many revisions one transaction forgets, which bounds how
// long writes wait for it.
const compactPortion = 500

// writer is the one connection that writes, with its prepared statements.
type writer struct {
	conn                                        *sql.Conn
	begin, end, undo, head, get, put, del, note *sql.Stmt
	advance, forget, trim                       *sql.Stmt
}

func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn}
	for _, p := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&w.begin, `BEGIN IMMEDIATE`},
		{&w.end, `COMMIT`},
		{&w.undo, `ROLLBACK`},
		{&w.head, `SELECT rev FROM log_head`},
		{&w.get, `SELECT version, created FROM records WHERE type = ? AND mesh = ? AND name = ?`},
		{&w.put, `INSERT INTO records (type, mesh, name, labels, spec, status, version, created, modified)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET labels = excluded.labels, spec = excluded.spec,
				status = excluded.status, version = excluded.version, modified = excluded.modified`},
		{&w.del, `DELETE FROM records WHERE type = ? AND mesh = ? AND name = ?`},
		{&w.note, `INSERT INTO log (rev, seq, time, author, type, mesh, name, labels, spec, status, version, created, modified)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		{&w.advance, `UPDATE log_head SET rev = ?`},
		{&w.forget, `UPDATE log_head SET compacted = max(compacted, min(rev, ?, compacted + ?))
			RETURNING compacted, compacted < min(rev, ?)`},
		{&w.trim, `DELETE FROM log WHERE rev <= ?`},
	} {
		if *p.to, err = conn.PrepareContext(ctx, p.sql); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return w, nil
}

func (w *writer) close() error {
	err := w.conn.Close() // closes its statements as well
	if errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}

// transaction runs do between BEGIN and COMMIT; do returns false to undo.
func (w *writer) transaction(do func() (bool, error)) error {
	if _, err := w.begin.Exec(); err != nil {
		return err
	}
	keep, err := do()
	if err != nil || !keep {
		_, undo := w.undo.Exec()
		return errors.Join(err, undo)
	}
	if _, err := w.end.Exec(); err != nil {
		w.undo.Exec() // fails when SQLite has rolled back already
		return errors.Join(errCommit, err)
	}
	return nil
}

// commit writes without the contexts of callers: the group belongs to all.
func (w *writer) commit(calls []*group.Call, holds func(lease.Fence) bool) (rev store.Revision, changed bool, err error) {
	err = w.transaction(func() (bool, error) {
		if err := w.head.QueryRow().Scan(&rev); err != nil {
			return false, err
		}
		stored, err := w.stored(calls)
		if err != nil {
			return false, err
		}
		now := time.Now()
		changes := group.Decide(calls, stored, holds, rev+1, now)
		if len(changes) == 0 {
			return false, nil
		}
		rev, changed = rev+1, true
		for i := range changes {
			if err := w.apply(&changes[i], rev, i, micros(now)); err != nil {
				return false, err
			}
		}
		_, err = w.advance.Exec(int64(rev))
		return true, err
	})
	return rev, changed, err
}

func (w *writer) stored(calls []*group.Call) (map[resource.ID]group.Stored, error) {
	stored := map[resource.ID]group.Stored{}
	for _, c := range calls {
		for i := range c.Ops {
			id := c.Ops[i].ID
			var version, created int64
			switch err := w.get.QueryRow(string(id.Type), id.Mesh, id.Name).Scan(&version, &created); {
			case errors.Is(err, sql.ErrNoRows):
			case err != nil:
				return nil, err
			default:
				stored[id] = group.Stored{Version: store.Revision(version), Created: time.UnixMicro(created).UTC()}
			}
		}
	}
	return stored, nil
}

func (w *writer) apply(c *store.Change, rev store.Revision, seq int, now int64) error {
	if c.Record == nil {
		if _, err := w.del.Exec(string(c.Type), c.Mesh, c.Name); err != nil {
			return err
		}
		_, err := w.note.Exec(int64(rev), seq, now, c.Author, string(c.Type), c.Mesh, c.Name, nil, nil, nil, nil, nil, nil)
		return err
	}
	r := c.Record
	var labels any
	if len(r.Labels) > 0 {
		b, err := json.Marshal(r.Labels)
		if err != nil {
			return err
		}
		labels = string(b)
	}
	row := []any{string(c.Type), c.Mesh, c.Name, labels, r.Spec, r.Status, int64(rev), micros(r.Created), micros(r.Modified)}
	if _, err := w.put.Exec(row...); err != nil {
		return err
	}
	_, err := w.note.Exec(append([]any{int64(rev), seq, now, c.Author}, row...)...)
	return err
}

// compact forgets a portion and tells whether more is to be forgotten.
func (w *writer) compact(ctx context.Context, upTo store.Revision) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	limit := int64(min(upTo, 1<<62))
	err = w.transaction(func() (bool, error) {
		var compacted int64
		if err := w.forget.QueryRow(limit, compactPortion, limit).Scan(&compacted, &more); err != nil {
			return false, err
		}
		_, err := w.trim.Exec(compacted)
		return true, err
	})
	return more, err
}

func micros(t time.Time) int64 { return t.UnixMicro() }
