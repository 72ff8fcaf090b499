package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/changelog"
)

func readLog(ctx context.Context, db *sql.DB, after store.Revision, limit int) (store.Batch, error) {
	if int64(after) < 0 {
		return store.Batch{}, store.Resumable(after, 0, 0) // beyond what a column holds
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return store.Batch{}, fmt.Errorf("read after revision %d: %w", after, err)
	}
	defer tx.Rollback()
	return changelog.Read(after, limit, func(after, upTo store.Revision, limit int) (changelog.Page, error) {
		p, err := readPage(ctx, tx, after, upTo, limit)
		if err != nil {
			err = fmt.Errorf("read after revision %d: %w", after, err)
		}
		return p, err
	})
}

func readPage(ctx context.Context, tx *sql.Tx, after, upTo store.Revision, limit int) (changelog.Page, error) {
	var p changelog.Page
	if err := tx.QueryRowContext(ctx, `SELECT rev, compacted FROM log_head`).Scan(&p.Head, &p.Compacted); err != nil {
		return p, err
	}
	if after >= p.Head || after < p.Compacted {
		return p, nil
	}
	if limit == 0 {
		limit = -1
	}
	rows, err := tx.QueryContext(ctx, `SELECT rev, time, author, type, mesh, name, labels, spec, status, version, created, modified
		FROM log WHERE rev > ? AND rev <= ? ORDER BY rev, seq LIMIT ?`, int64(after), int64(upTo), limit)
	if err != nil {
		return p, err
	}
	defer rows.Close()
	for rows.Next() {
		var row changelog.Row
		var at int64
		var version, created, modified sql.NullInt64
		var labels sql.NullString
		var r store.Record
		if err := rows.Scan(&row.Revision, &at, &row.Author, &row.Type, &row.Mesh, &row.Name,
			&labels, &r.Spec, &r.Status, &version, &created, &modified); err != nil {
			return p, err
		}
		row.Time = time.UnixMicro(at).UTC()
		if version.Valid {
			r.ID = row.ID
			if err := complete(&r, version.Int64, created.Int64, modified.Int64, labels.String); err != nil {
				return p, err
			}
			row.Record = &r
		}
		p.Rows = append(p.Rows, row)
	}
	return p, rows.Err()
}

func complete(r *store.Record, version, created, modified int64, labels string) error {
	r.Version = store.Revision(version)
	r.Created, r.Modified = time.UnixMicro(created).UTC(), time.UnixMicro(modified).UTC()
	if labels == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(labels), &r.Labels); err != nil {
		return fmt.Errorf("%s: labels: %w", r.ID, err)
	}
	return nil
}

// snapshot opens a transaction that lasts until the sequence ends, which then
// calls end, or ctx does.
func snapshot(ctx context.Context, end func(), db *sql.DB) (iter.Seq2[store.Record, error], store.Revision, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, err
	}
	var rev store.Revision // reading it fixes what the transaction sees
	if err := tx.QueryRowContext(ctx, `SELECT rev FROM log_head`).Scan(&rev); err != nil {
		return nil, 0, errors.Join(err, tx.Rollback())
	}
	return func(yield func(store.Record, error) bool) {
		defer end()
		defer tx.Rollback()
		rows, err := tx.QueryContext(ctx, `SELECT type, mesh, name, labels, spec, status, version, created, modified
			FROM records ORDER BY type, mesh, name`)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r store.Record
			var labels sql.NullString
			var version, created, modified int64
			err := rows.Scan(&r.Type, &r.Mesh, &r.Name, &labels, &r.Spec, &r.Status, &version, &created, &modified)
			if err == nil {
				err = complete(&r, version, created, modified, labels.String)
			}
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(store.Record{}, err)
		}
	}, rev, nil
}
