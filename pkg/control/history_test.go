package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// counted is a store that counts compactions.
type counted struct {
	store.Store
	compactions int
}

func (c *counted) Compact(ctx context.Context, upTo store.Revision) error {
	c.compactions++
	return c.Store.Compact(ctx, upTo)
}

// keepHistory runs the job on a store with n commits.
func keepHistory(t *testing.T, n int, h History) *counted {
	t.Helper()
	st := &counted{Store: memory.Open()}
	ctx, cancel := context.WithCancel(t.Context())
	v := view.New(resource.NewKinds(), resource.Site{Zone: "z"}, slog.New(slog.DiscardHandler))
	done := make(chan struct{}, 2)
	grow(t, st, n)
	go func() { view.Follow(ctx, st, v); done <- struct{}{} }()
	h.View, h.Store, h.Log = v, st, slog.New(slog.DiscardHandler)
	go func() {
		if err := h.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("history: %v", err)
		}
		done <- struct{}{}
	}()
	t.Cleanup(func() { cancel(); <-done; <-done; st.Close() })
	synctest.Wait()
	return st
}

func grow(t *testing.T, st store.Store, n int) {
	t.Helper()
	for i := range n {
		op := store.Op{Record: store.Record{ID: resource.ID{Type: "Zone", Name: fmt.Sprint("z", i%7)}}, Expect: store.Any}
		if _, err := st.Write(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
}

func wantFloor(t *testing.T, st store.Store, head, want store.Revision) {
	t.Helper()
	got, err := store.Floor(t.Context(), st, head)
	if err != nil || got != want {
		t.Errorf("the log begins after %d, %v; want %d", got, err, want)
	}
}

func TestHistoryIsBoundedByNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := keepHistory(t, 1099, History{Revisions: 1000})
		wantFloor(t, st, 1099, 0) // within a step
		grow(t, st, 1)
		wantFloor(t, st, 1100, 100)
		for range 1000 { // one at a time, each seen by the job
			grow(t, st, 1)
		}
		wantFloor(t, st, 2100, 1100)
		if st.compactions > 11 {
			t.Errorf("%d compactions for 1000 writes; steps are 100", st.compactions)
		}
	})
}

func TestHistoryKeepsWhatLaggingReadersNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := keepHistory(t, 2000, History{Revisions: 1, Age: time.Second})
		time.Sleep(time.Hour)
		synctest.Wait()
		wantFloor(t, st, 2000, 2000-historyMargin)
	})
}

func TestHistoryIsBoundedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		st := keepHistory(t, 1000, History{Age: 10 * day})
		time.Sleep(5 * day)
		grow(t, st, 1000)
		wantFloor(t, st, 2000, 0)
		time.Sleep(5*day + time.Hour) // 10 days and an hour: not worth it yet
		synctest.Wait()
		wantFloor(t, st, 2000, 0)
		time.Sleep(day) // and nobody writes: it is time itself that counts
		synctest.Wait()
		wantFloor(t, st, 2000, 1000)
		time.Sleep(100 * day)
		synctest.Wait()
		wantFloor(t, st, 2000, 2000-historyMargin)
	})
}

func TestHistoryUnboundedKeepsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := keepHistory(t, 3000, History{})
		time.Sleep(1000 * time.Hour)
		synctest.Wait()
		wantFloor(t, st, 3000, 0)
		if st.compactions > 0 {
			t.Error("something was forgotten")
		}
	})
}
