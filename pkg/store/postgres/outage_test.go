package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/postgres"
	"github.com/atoll-mesh/atoll/pkg/store/storetest"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

const soon = 10 * time.Second

func contains(err error, s string) bool { return err != nil && strings.Contains(err.Error(), s) }

func rung(t testing.TB, bell <-chan struct{}) {
	t.Helper()
	select {
	case <-bell:
	case <-time.After(soon):
		t.Fatal("the doorbell did not ring")
	}
}

func startServer(t *testing.T) *pgtemp.Server {
	t.Helper()
	s, err := pgtemp.Start(t.Context(), pgtemp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestOutage ends the server under two replicas that write and read, several
// times and in different ways. Calls fail clearly while it is away; afterwards
// everything goes on by itself, and nothing that was acknowledged is lost.
func TestOutage(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	cfg := database(t, srv)
	a, b := open(t, cfg), open(t, cfg)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	w := newWriters(t, 8)
	for i := range w.acked {
		st := []store.Store{a, b}[i%2]
		wg.Go(func() { w.write(ctx, st, i) })
	}
	wg.Go(func() { w.follow(ctx, b) })

	for _, end := range []func() error{srv.Abort, srv.Kill, srv.Stop, srv.Abort} {
		w.awaitProgress(t)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		wantAway(t, a)
		if err := srv.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.awaitProgress(t)
	stop()
	wg.Wait()

	all, head, err := storetest.Contents(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.acked {
		op := put("p"+strconv.Itoa(i), "")
		stored, _ := strconv.ParseInt(string(all[op.ID].Spec), 10, 64)
		if acked := w.acked[i].Load(); stored < acked {
			t.Errorf("writer %d: write %d was acknowledged, %d is stored", i, acked, stored)
		}
	}
	after := store.Revision(0)
	for after < head {
		batch, err := a.Read(t.Context(), after, 0)
		if err == nil {
			err = storetest.Consecutive(after, batch)
		}
		if err != nil {
			t.Fatal(err)
		}
		after += store.Revision(len(batch.Commits))
	}
	t.Logf("%d revisions, %d writes failed while the server was away", head, w.failed.Load())

	// Doorbells work between the replicas again.
	bell := b.Doorbell(t.Context())
	deadline := time.After(soon)
	for n := 0; ; n++ {
		if _, err := a.Write(t.Context(), put("bell", strconv.Itoa(n))); err != nil {
			t.Fatal(err)
		}
		select {
		case <-bell:
			return
		case <-time.After(100 * time.Millisecond): // b may still be reconnecting
		case <-deadline:
			t.Fatal("doorbells do not ring after the outage")
		}
	}
}

// wantAway: every call says that the store is unavailable, and soon.
func wantAway(t *testing.T, st store.Store) {
	t.Helper()
	for name, call := range map[string]func(context.Context) error{
		"write":    func(ctx context.Context) error { _, err := st.Write(ctx, put("away", "1")); return err },
		"read":     func(ctx context.Context) error { _, err := st.Read(ctx, 0, 0); return err },
		"snapshot": func(ctx context.Context) error { _, _, err := st.Snapshot(ctx); return err },
		"compact":  func(ctx context.Context) error { return st.Compact(ctx, 0) },
	} {
		began := time.Now()
		if err := call(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s without a server: %v, want ErrUnavailable", name, err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s without a server took %s to fail", name, took)
		}
	}
}

type writers struct {
	t      *testing.T
	acked  []atomic.Int64
	failed atomic.Int64
	total  chan struct{} // one value per acknowledged write that somebody waits for
}

func newWriters(t *testing.T, n int) *writers {
	return &writers{t: t, acked: make([]atomic.Int64, n), total: make(chan struct{})}
}

func (w *writers) write(ctx context.Context, st store.Store, i int) {
	for n := int64(1); ctx.Err() == nil; n++ {
		text := strconv.FormatInt(n, 10)
		_, err := st.Write(ctx, put("p"+strconv.Itoa(i), text), put("q"+strconv.Itoa(i), text))
		switch {
		case err == nil:
			w.acked[i].Store(n)
			select {
			case w.total <- struct{}{}:
			default:
			}
		case errors.Is(err, store.ErrUnavailable):
			w.failed.Add(1)
			select { // as a caller would
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		case ctx.Err() == nil:
			w.t.Errorf("writer %d: %v, want nil or ErrUnavailable", i, err)
			return
		}
	}
}

func (w *writers) awaitProgress(t *testing.T) {
	t.Helper()
	for range 100 {
		select {
		case <-w.total:
		case <-time.After(soon):
			t.Fatal("writes did not resume")
		}
	}
}

// follow is a reader that lives through outages, woken by its doorbell.
func (w *writers) follow(ctx context.Context, st store.Store) {
	bell := st.Doorbell(ctx)
	after := store.Revision(0)
	for ctx.Err() == nil {
		b, err := st.Read(ctx, after, 0)
		if err == nil {
			err = storetest.Consecutive(after, b)
			after += store.Revision(len(b.Commits))
		}
		switch {
		case err == nil && len(b.Commits) > 0:
			continue
		case err != nil && !errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil:
			w.t.Errorf("reader at %d: %v", after, err)
			return
		}
		select { // when the server is back, the reconnected listener rings
		case <-bell:
		case <-ctx.Done():
		}
	}
}

func TestOpenWaits(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	cfg := database(t, srv)
	cfg.Log = slog.New(slog.DiscardHandler)
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := postgres.Open(ctx, cfg); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("open without a server: %v, want ErrUnavailable", err)
	}
	opened := make(chan error)
	go func() {
		st, err := postgres.Open(t.Context(), cfg)
		if err == nil {
			_, err = st.Write(t.Context(), put("a", "1"))
			err = errors.Join(err, st.Close())
		}
		opened <- err
	}()
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestLeaseThroughOutage(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	cfg := database(t, srv)
	a, b := open(t, cfg), open(t, cfg)
	const ttl = time.Second
	l, err := a.Lease(t.Context(), "leader", "a", ttl)
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan store.Lease)
	go func() {
		l, err := b.Lease(t.Context(), "leader", "b", ttl)
		if err != nil {
			t.Error(err)
		}
		next <- l
	}()
	if err := srv.Abort(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Lost(): // it could not be renewed for its time to live
	case <-time.After(soon):
		t.Fatal("the lease is held without a database")
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	lb := <-next
	if _, err := a.Write(l.Fence(t.Context()), put("x", "a")); !errors.Is(err, store.ErrNotLeader) {
		t.Errorf("the former leader wrote: %v", err)
	}
	if _, err := b.Write(lb.Fence(t.Context()), put("x", "b")); err != nil {
		t.Errorf("the new leader cannot write: %v", err)
	}
}

func TestLeaseIsRenewedAndTaken(t *testing.T) {
	t.Parallel()
	cfg := database(t, server)
	a, b := open(t, cfg), open(t, cfg)
	const ttl = 2 * time.Second // of which a busy machine may take much
	l, err := a.Lease(t.Context(), "leader", "a", ttl)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*ttl)
	defer cancel()
	if _, err := b.Lease(ctx, "leader", "b", ttl); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lease that is renewed was granted to another: %v", err)
	}
	select {
	case <-l.Lost():
		t.Fatal("the lease was lost although it could be renewed")
	default:
	}
	// As if a had been paused and somebody else had led since.
	query(t, cfg, "UPDATE atoll_lease SET token = token + 1, holder = 'c' RETURNING token")
	if _, err := a.Write(l.Fence(t.Context()), put("x", "a")); !errors.Is(err, store.ErrNotLeader) {
		t.Errorf("the former leader wrote: %v", err)
	}
	select {
	case <-l.Lost():
	case <-time.After(soon):
		t.Error("the holder was not told")
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if n := query(t, cfg, "SELECT count(*) FROM atoll_lease WHERE holder = 'c'"); n != 1 {
		t.Error("a former holder released the lease of its successor")
	}
}

// TestStuckReplica: a replica that stops in the middle of a commit keeps the lock
// of the log for a few seconds, not for ever.
func TestStuckReplica(t *testing.T) {
	t.Parallel()
	cfg := database(t, server)
	st := open(t, cfg)
	stuck, ctx := connect(t, cfg), context.Background()
	for _, sql := range []string{"BEGIN", postgres.Abandoned, "UPDATE atoll_log_head SET rev = rev + 1"} {
		if _, err := stuck.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	if rev, err := st.Write(t.Context(), put("a", "1")); err != nil || rev != 1 {
		t.Errorf("revision %d, %v; want 1, as the stuck one wrote nothing", rev, err)
	}
}

func TestDurableWhateverTheServersDefault(t *testing.T) {
	cfg := database(t, server)
	exec(t, cfg, fmt.Sprintf("ALTER DATABASE %s SET synchronous_commit = off", cfg.DBName))
	exec(t, cfg, fmt.Sprintf("ALTER DATABASE %s SET default_transaction_isolation = 'serializable'", cfg.DBName))
	st := open(t, cfg)
	if rev, err := st.Write(t.Context(), put("a", "1")); err != nil || rev != 1 {
		t.Errorf("revision %d, %v", rev, err)
	}
}
