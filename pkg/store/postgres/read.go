package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/changelog"
)

// Read has the meaning that store.Store gives it.
func (s *Store) Read(ctx context.Context, after store.Revision, limit int) (store.Batch, error) {
	if int64(after) < 0 {
		return store.Batch{}, store.Resumable(after, 0, 0) // beyond what a column holds
	}
	var b store.Batch
	err := s.do(ctx, fmt.Sprintf("read after revision %d", after), func(ctx context.Context) error {
		var err error
		b, err = changelog.Read(after, limit, func(after, upTo store.Revision, limit int) (changelog.Page, error) {
			return s.readPage(ctx, after, upTo, limit)
		})
		return err
	})
	return b, err
}

// readPage is one statement, and so one snapshot of the head and the rows.
func (s *Store) readPage(ctx context.Context, after, upTo store.Revision, limit int) (changelog.Page, error) {
	var most *int // NULL: all
	if limit > 0 {
		most = &limit
	}
	var p changelog.Page
	rows, err := s.pool.Query(ctx, `SELECT h.rev, h.compacted, l.rev, l.time, l.author, l.type, l.mesh, l.name,
			l.labels, l.spec, l.status, l.version, l.created, l.modified
		FROM atoll_log_head h LEFT JOIN LATERAL
			(SELECT * FROM atoll_log WHERE rev > $1 AND rev <= $2 ORDER BY rev, seq LIMIT $3) l ON true
		ORDER BY l.rev, l.seq`, int64(after), int64(upTo), most)
	if err != nil {
		return p, err
	}
	defer rows.Close()
	for rows.Next() {
		var rev, version *int64
		var at, created, modified *time.Time
		var author, typ, mesh, name *string
		var r store.Record
		if err := rows.Scan(&p.Head, &p.Compacted, &rev, &at, &author, &typ, &mesh, &name,
			&r.Labels, &r.Spec, &r.Status, &version, &created, &modified); err != nil {
			return p, err
		}
		if rev == nil { // the head alone
			continue
		}
		row := changelog.Row{Revision: store.Revision(*rev), Time: at.UTC()}
		row.Author = *author
		row.ID = resource.ID{Type: resource.Type(*typ), Mesh: *mesh, Name: *name}
		if version != nil {
			r.ID = row.ID
			r.Version = store.Revision(*version)
			r.Created, r.Modified = created.UTC(), modified.UTC()
			row.Record = &r
		}
		p.Rows = append(p.Rows, row)
	}
	return p, rows.Err()
}

// Snapshot has the meaning that store.Store gives it, in the order of IDs. A
// sequence occupies one connection.
func (s *Store) Snapshot(ctx context.Context) (iter.Seq2[store.Record, error], store.Revision, error) {
	life, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(s.alive, cancel)
	end := func() { forget(); cancel() }
	var tx pgx.Tx
	var rev store.Revision
	err := s.do(ctx, "snapshot", func(ctx context.Context) error {
		var err error
		if tx, err = s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err != nil {
			return err
		}
		// The first statement fixes what the transaction sees.
		if err := tx.QueryRow(ctx, `SELECT rev FROM atoll_log_head`).Scan(&rev); err != nil {
			undo(tx)
			return err
		}
		return nil
	})
	if err != nil {
		end()
		return nil, 0, err
	}
	var taken atomic.Bool // by the reader, or by the end of ctx when nobody reads
	context.AfterFunc(life, func() {
		if taken.CompareAndSwap(false, true) {
			undo(tx)
		}
	})
	return func(yield func(store.Record, error) bool) {
		if !taken.CompareAndSwap(false, true) {
			yield(store.Record{}, s.wrap(life, "snapshot", errors.New("the sequence was read before; take a new one")))
			return
		}
		defer end()
		defer undo(tx)
		rows, err := tx.Query(life, `SELECT type, mesh, name, labels, spec, status, version, created, modified
			FROM atoll_record ORDER BY type, mesh, name`)
		if err != nil {
			yield(store.Record{}, s.wrap(ctx, "snapshot", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r store.Record
			if err := rows.Scan(&r.Type, &r.Mesh, &r.Name, &r.Labels, &r.Spec, &r.Status, &r.Version, &r.Created, &r.Modified); err != nil {
				yield(store.Record{}, s.wrap(ctx, "snapshot", err))
				return
			}
			r.Created, r.Modified = r.Created.UTC(), r.Modified.UTC()
			if !yield(r, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(store.Record{}, s.wrap(ctx, "snapshot", err))
		}
	}, rev, nil
}

// undo ends a transaction that has nothing to keep.
func undo(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	tx.Rollback(ctx)
}
