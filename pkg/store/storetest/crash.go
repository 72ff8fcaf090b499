package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

const (
	childEnv     = "ATOLL_STORETEST_CHILD"
	crashWriters = 8
	kills        = 50
)

// Child is for TestMain: in a process that Crash started it opens the store that
// Crash named, writes until it is killed, and does not return.
func Child(open func(ctx context.Context, where string) (store.Store, error)) {
	where := os.Getenv(childEnv)
	if where == "" {
		return
	}
	st, err := open(context.Background(), where)
	if err == nil {
		err = writeForEver(st)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Each writer has three resources, which each of its writes changes together: a
// and b get the number of the write, c exists after even ones only.
func crashNames(w int) (a, b, c string) {
	return fmt.Sprintf("a%d", w), fmt.Sprintf("b%d", w), fmt.Sprintf("c%d", w)
}

func writeForEver(st store.Store) error {
	all, _, err := Contents(context.Background(), st)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, crashWriters)
	for w := range crashWriters {
		wg.Go(func() {
			a, b, c := crashNames(w)
			n := 0
			if r, ok := all[id(a)]; ok {
				n = number(r)
			}
			for {
				n++
				third := del(c, store.Any)
				if n%2 == 0 {
					third = put(c, strconv.Itoa(n), store.Any)
				}
				rev, err := st.Write(context.Background(), put(a, strconv.Itoa(n), store.Any), put(b, strconv.Itoa(n), store.Any), third)
				if err != nil {
					errs <- err
					return
				}
				// One short write to a pipe: the parent gets all of it or nothing.
				fmt.Fprintf(os.Stdout, "%d %d %d\n", w, n, rev)
			}
		})
	}
	wg.Wait()
	return <-errs
}

type ack struct {
	writer, n int
	rev       store.Revision
}

// Crash starts a child of the test binary that writes to a store, kills it at a
// random moment, and checks that what it was told is durable is there, whole; 50
// times. The test binary's TestMain must call Child. where tells the child which
// store, and open opens the same one here.
func Crash(t *testing.T, where string, open func(testing.TB) store.Store) {
	acked := map[int]int{} // newest of each writer
	total, head := 0, store.Revision(0)
	var log []store.Commit
	for range kills {
		acks := runAndKill(t, where)
		total += len(acks)
		st := open(t)
		log = append(log, readAll(t, st, head)...)
		head = store.Revision(len(log))
		for _, a := range acks {
			acked[a.writer] = a.n
			if a.rev > head {
				t.Fatalf("write %d of writer %d was acknowledged as revision %d, the newest is %d", a.n, a.writer, a.rev, head)
			}
			if !has(log[a.rev-1], a) {
				t.Fatalf("revision %d does not have write %d of writer %d, which was acknowledged", a.rev, a.n, a.writer)
			}
		}
		all, rev := contents(t, st)
		if rev < head {
			t.Fatalf("the snapshot is of revision %d, the log has %d", rev, head)
		}
		for w := range crashWriters {
			checkWhole(t, all, w, acked[w])
		}
		if rev == head && !reflect.DeepEqual(all, replay(log)) {
			t.Fatalf("at %d the records are not what the log makes of them", rev)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if total < kills {
		t.Errorf("only %d writes were acknowledged before %d kills: too few to show anything", total, kills)
	}
	checkSteps(t, log)
	t.Logf("%d acknowledged writes, %d commits, %d kills", total, head, kills)
}

func has(c store.Commit, a ack) bool {
	name, _, _ := crashNames(a.writer)
	for _, ch := range c.Changes {
		if ch.ID == id(name) {
			return ch.Record != nil && number(*ch.Record) == a.n
		}
	}
	return false
}

// checkWhole: the newest acknowledged write is there, or one after it that was
// under way; and all of it.
func checkWhole(t *testing.T, all map[resource.ID]store.Record, w, acked int) {
	t.Helper()
	an, bn, cn := crashNames(w)
	a, stored := all[id(an)]
	b := all[id(bn)]
	c, third := all[id(cn)]
	n := 0
	if stored {
		n = number(a)
	}
	switch {
	case n < acked:
		t.Fatalf("writer %d: write %d was acknowledged, %d is stored", w, acked, n)
	case string(a.Spec) != string(b.Spec) || a.Version != b.Version:
		t.Fatalf("writer %d: half a write: %q and %q", w, a.Spec, b.Spec)
	case third != (n > 0 && n%2 == 0) || third && number(c) != n:
		t.Fatalf("writer %d: half of write %d: the third resource is %q", w, n, c.Spec)
	}
}

// checkSteps: each write follows the one before it. A number may come twice, when
// a write took effect after its writer was killed and the next one had begun.
func checkSteps(t *testing.T, log []store.Commit) {
	t.Helper()
	last := map[resource.ID]int{}
	for _, c := range log {
		for _, ch := range c.Changes {
			if ch.Record == nil || ch.Name[0] == 'c' {
				continue
			}
			n := number(*ch.Record)
			if step := n - last[ch.ID]; step != 0 && step != 1 {
				t.Fatalf("revision %d: %s has write %d after %d", c.Revision, ch.ID, n, last[ch.ID])
			}
			last[ch.ID] = n
		}
	}
}

// runAndKill returns what the child acknowledged.
func runAndKill(t *testing.T, where string) []ack {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+where)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acks []ack
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var a ack
		if _, err := fmt.Sscan(line, &a.writer, &a.n, &a.rev); err != nil {
			t.Fatalf("the child wrote %q: %v", line, err)
		}
		if acks = append(acks, a); len(acks) == 1 {
			// The moment is random on purpose. A third of them is so early that
			// the first commits are under way.
			span := 30 * time.Millisecond
			if rand.IntN(3) == 0 {
				span = time.Millisecond
			}
			time.AfterFunc(rand.N(span), func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait() // by a signal, as it should be
	if len(acks) == 0 {
		t.Fatal("the child ended before it acknowledged anything")
	}
	return acks
}
