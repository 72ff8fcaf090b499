package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/group"
	"github.com/atoll-mesh/atoll/pkg/store/lease"
)

// abandoned bounds how long a replica that stopped between the two trips of a
// commit (paused, or cut off) keeps the others from writing.
const abandoned = `SET LOCAL idle_in_transaction_session_timeout = '3s'`

// commit writes without the contexts of callers: the group belongs to all.
func (s *Store) commit(calls []*group.Call) (store.Revision, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.patience())
	defer cancel()
	a := attempt{pool: s.pool, calls: calls}
	err := a.run(ctx)
	if broken(err) && !a.sent && ctx.Err() == nil {
		// The connection was from before a restart. Nothing can have been
		// committed, so a fresh one may have a try.
		s.pool.Reset()
		a = attempt{pool: s.pool, calls: calls}
		err = a.run(ctx)
	}
	if a.sent { // rings even if the outcome is unknown: readers will see
		s.bells.Ring()
	}
	if err != nil {
		return 0, s.wrap(context.Background(), "write", err)
	}
	return a.rev, nil
}

// attempt is one try to commit a group, in two trips to the server.
type attempt struct {
	pool  *pgxpool.Pool
	calls []*group.Call

	sent bool // COMMIT may have reached the server
	rev  store.Revision
}

func (a *attempt) run(ctx context.Context) error {
	conn, err := a.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // closes it if the transaction has not ended
	st, err := a.begin(ctx, conn)
	if err == nil {
		changes := group.Decide(a.calls, st.stored, st.holds, st.rev, st.now)
		if len(changes) > 0 {
			a.rev, a.sent = st.rev, true
			if err = write(ctx, conn, st, changes); err == nil {
				return nil
			}
		}
	}
	if !conn.Conn().IsClosed() {
		if _, undo := conn.Exec(ctx, "ROLLBACK"); err == nil {
			a.rev, err = st.rev-1, undo
		}
	}
	return err
}

// state is what a commit finds once it has the lock.
type state struct {
	rev    store.Revision // of this commit
	now    time.Time      // by the database's clock, the one that replicas share
	sync   string         // synchronous_commit
	stored map[resource.ID]group.Stored
	held   map[lease.Fence]bool
}

func (st *state) holds(f lease.Fence) bool { return st.held[f] }

// begin takes the lock of the log, and then looks: what it sees cannot change
// until the commit.
func (a *attempt) begin(ctx context.Context, conn *pgxpool.Conn) (state, error) {
	st := state{stored: map[resource.ID]group.Stored{}, held: map[lease.Fence]bool{}}
	var types, meshes, names, fences []string
	for _, c := range a.calls {
		for i := range c.Ops {
			types = append(types, string(c.Ops[i].Type))
			meshes = append(meshes, c.Ops[i].Mesh)
			names = append(names, c.Ops[i].Name)
		}
		for _, f := range c.Fences {
			fences = append(fences, f.Name)
		}
	}
	b := &pgx.Batch{}
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`) // each statement sees what was committed before it
	b.Queue(abandoned)
	b.Queue(`UPDATE atoll_log_head SET rev = rev + 1 RETURNING rev, clock_timestamp(), current_setting('synchronous_commit')`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&st.rev, &st.now, &st.sync) })
	b.Queue(`SELECT type, mesh, name, version, created
		FROM unnest($1::text[], $2::text[], $3::text[]) AS k (type, mesh, name) JOIN atoll_record USING (type, mesh, name)`, types, meshes, names).
		Query(func(rows pgx.Rows) error {
			var id resource.ID
			var s group.Stored
			_, err := pgx.ForEachRow(rows, []any{&id.Type, &id.Mesh, &id.Name, &s.Version, &s.Created}, func() error {
				s.Created = s.Created.UTC()
				st.stored[id] = s
				return nil
			})
			return err
		})
	if len(fences) > 0 {
		// FOR SHARE: no lease changes hands before the commit.
		b.Queue(`SELECT name, holder, token FROM atoll_lease WHERE name = ANY ($1) ORDER BY name FOR SHARE`, fences).
			Query(func(rows pgx.Rows) error {
				var f lease.Fence
				_, err := pgx.ForEachRow(rows, []any{&f.Name, &f.Holder, &f.Token}, func() error {
					st.held[f] = true
					return nil
				})
				return err
			})
	}
	return st, conn.SendBatch(ctx, b).Close()
}

// write sends the changes and the commit at once.
func write(ctx context.Context, conn *pgxpool.Conn, st state, changes []store.Change) error {
	all, puts, deletes, err := columnsOf(changes)
	if err != nil {
		return err
	}
	rev := int64(st.rev)
	b := &pgx.Batch{}
	if st.sync == "off" {
		b.Queue(`SET LOCAL synchronous_commit = on`) // acknowledged means durable
	}
	if len(puts.names) > 0 {
		b.Queue(`INSERT INTO atoll_record (type, mesh, name, labels, spec, status, version, created, modified)
			SELECT type, mesh, name, labels::jsonb, spec, status, $1::bigint, created, modified
			FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::timestamptz[], $9::timestamptz[])
				AS p (type, mesh, name, labels, spec, status, created, modified)
			ON CONFLICT (type, mesh, name) DO UPDATE SET labels = excluded.labels, spec = excluded.spec,
				status = excluded.status, version = excluded.version, modified = excluded.modified`,
			rev, puts.types, puts.meshes, puts.names, puts.labels, puts.specs, puts.statuses, puts.created, puts.modified)
	}
	if len(deletes.names) > 0 {
		b.Queue(`DELETE FROM atoll_record r USING unnest($1::text[], $2::text[], $3::text[]) AS d (type, mesh, name)
			WHERE r.type = d.type AND r.mesh = d.mesh AND r.name = d.name`, deletes.types, deletes.meshes, deletes.names)
	}
	b.Queue(`INSERT INTO atoll_log (rev, seq, time, author, type, mesh, name, labels, spec, status, version, created, modified)
		SELECT $1::bigint, seq, $2::timestamptz, author, type, mesh, name, labels::jsonb, spec, status, CASE WHEN created IS NOT NULL THEN $1::bigint END, created, modified
		FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::bytea[], $10::timestamptz[], $11::timestamptz[])
			WITH ORDINALITY AS l (author, type, mesh, name, labels, spec, status, created, modified, seq)`,
		rev, st.now, all.authors, all.types, all.meshes, all.names, all.labels, all.specs, all.statuses, all.created, all.modified)
	b.Queue(`NOTIFY ` + logChannel)
	b.Queue(`COMMIT`)
	return conn.SendBatch(ctx, b).Close()
}

// columns are changes as arrays, one per column: a group of any size takes the
// same few statements.
type columns struct {
	authors, types, meshes, names []string
	labels                        []*string
	specs, statuses               [][]byte
	created, modified             []*time.Time
}

func columnsOf(changes []store.Change) (all, puts, deletes columns, err error) {
	for i := range changes {
		c := &changes[i]
		if err := all.add(c); err != nil {
			return all, puts, deletes, err
		}
		part := &deletes
		if c.Record != nil {
			part = &puts
		}
		if err := part.add(c); err != nil {
			return all, puts, deletes, err
		}
	}
	return all, puts, deletes, nil
}

func (cs *columns) add(c *store.Change) error {
	cs.authors = append(cs.authors, c.Author)
	cs.types = append(cs.types, string(c.Type))
	cs.meshes = append(cs.meshes, c.Mesh)
	cs.names = append(cs.names, c.Name)
	r := c.Record
	if r == nil {
		r = &store.Record{}
	}
	var labels *string
	if len(r.Labels) > 0 {
		b, err := json.Marshal(r.Labels)
		if err != nil {
			return fmt.Errorf("%s: labels: %w", c.ID, err)
		}
		s := string(b)
		labels = &s
	}
	var created, modified *time.Time
	if c.Record != nil {
		created, modified = &r.Created, &r.Modified
	}
	cs.labels = append(cs.labels, labels)
	cs.specs = append(cs.specs, r.Spec)
	cs.statuses = append(cs.statuses, r.Status)
	cs.created = append(cs.created, created)
	cs.modified = append(cs.modified, modified)
	return nil
}
