package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/atoll-mesh/atoll/pkg/store"
)

// What one client asked about one key, and what it was told. The state of a key
// is the version stored, 0 when absent.
type asked struct {
	key    string
	read   bool
	delete bool
	expect int64
}

type told struct {
	version  store.Revision // read: what is stored; write: the revision
	conflict bool
}

// model is the specification against which histories are checked.
var model = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		keys := map[string][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(asked).key
			keys[k] = append(keys[k], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range keys {
			out = append(out, ops)
		}
		return out
	},
	Init: func() []any { return []any{store.Revision(0)} },
	Step: func(state, input, output any) []any {
		stored, in, out := state.(store.Revision), input.(asked), output.(told)
		matches := in.expect == store.Any || store.Revision(in.expect) == stored
		switch {
		case in.read && out.version == stored:
			return []any{stored}
		case in.read:
			return nil
		case out.conflict && !matches:
			return []any{stored}
		case out.conflict || !matches:
			return nil
		case in.delete && stored == 0: // nothing to delete
			return []any{stored}
		case out.version <= stored: // revisions grow
			return nil
		case in.delete:
			return []any{store.Revision(0)}
		}
		return []any{out.version}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

func testLinearizable(t *testing.T, st store.Store) {
	const clients, each = 12, 30
	keys := []string{"p", "q", "r"}
	var mu sync.Mutex
	var history []porcupine.Operation
	var wg sync.WaitGroup
	began := time.Now()
	for client := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(client), 7))
			known := map[string]store.Revision{}
			for range each {
				in := asked{key: keys[random.IntN(len(keys))]}
				switch random.IntN(6) {
				case 0, 1:
					in.read = true
				case 2:
					in.delete, in.expect = true, store.Any
				case 3:
					in.expect = store.Any
				case 4:
					in.expect = store.Absent
				default:
					in.expect = int64(known[in.key])
				}
				call := time.Since(began)
				out, err := perform(t.Context(), st, in)
				ret := time.Since(began)
				if err != nil {
					t.Error(err)
					return
				}
				if !out.conflict && !in.delete {
					known[in.key] = out.version
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(ret)})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := porcupine.CheckOperationsTimeout(model.ToModel(), history, 20*time.Second); got != porcupine.Ok {
		t.Errorf("the history of %d operations is not linearizable: %s", len(history), got)
	}
}

func perform(ctx context.Context, st store.Store, in asked) (told, error) {
	if in.read {
		all, _, err := Contents(ctx, st)
		return told{version: all[id(in.key)].Version}, err
	}
	op := put(in.key, "x", in.expect)
	if in.delete {
		op = del(in.key, in.expect)
	}
	rev, err := st.Write(ctx, op)
	if errors.Is(err, store.ErrConflict) {
		return told{conflict: true}, nil
	}
	return told{version: rev}, err
}
