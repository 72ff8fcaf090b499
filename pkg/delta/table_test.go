package delta

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

func TestTableKeepsWhatIsEqual(t *testing.T) {
	a := NewTable(resource("x", "1"), resource("y", "1"))
	if b := a.With(map[string]*Resource{"x": resource("x", "1"), "z": nil}); b != a {
		t.Error("nothing changed, but the table did")
	}
	b := a.With(map[string]*Resource{"x": resource("x", "2"), "y": resource("y", "1")})
	if b.Get("y") != a.Get("y") {
		t.Error("an equal resource got another pointer")
	}
	if a.Get("x").Version != "1" || b.Get("x").Version != "2" {
		t.Error("a table changed")
	}
	if got := b.Changed(a); !slices.Equal(got, []string{"x"}) {
		t.Errorf("changed: %v", got)
	}
	if c := b.Becoming(map[string]*Resource{"x": resource("x", "2"), "y": resource("y", "1")}); c != b {
		t.Error("became the same, but is another table")
	}
	var none *Table
	if got := none.Becoming(nil); got != nil {
		t.Error("nothing from nothing is something")
	}
}

// Random histories: the names said to have changed are those that did, at most
// with some that changed back.
func TestTableChanges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	tables := []*Table{nil}
	for range 300 {
		from := tables[rnd.IntN(len(tables))]
		if rnd.IntN(2) == 0 {
			from = tables[len(tables)-1]
		}
		changes := map[string]*Resource{}
		for range 1 + rnd.IntN(5) {
			name := fmt.Sprint("n", rnd.IntN(60))
			if rnd.IntN(3) == 0 {
				changes[name] = nil
			} else {
				changes[name] = resource(name, fmt.Sprint(rnd.IntN(4)))
			}
		}
		next := from.With(changes)
		if rnd.IntN(20) == 0 {
			next = NewTable(slices.Collect(next.All())...)
		}
		tables = append(tables, next)
		for range 10 {
			prev := tables[rnd.IntN(len(tables))]
			names := next.Changed(prev)
			seen := map[string]bool{}
			for _, name := range names {
				if seen[name] {
					t.Fatalf("%s is named twice", name)
				}
				seen[name] = true
			}
			for i := range 60 {
				name := fmt.Sprint("n", i)
				if !sameVersion(prev.Get(name), next.Get(name)) && !seen[name] {
					t.Fatalf("%s changed and is not named", name)
				}
			}
		}
	}
}

func TestPoolForgets(t *testing.T) {
	p := new(Pool)
	add := func(prefix string) *names {
		var all []string
		for i := range 100 {
			all = append(all, fmt.Sprint(prefix, i))
		}
		return p.with(nil, all, nil)
	}
	a, b := add("a"), add("a")
	if a != b {
		t.Fatal("equal sets are two")
	}
	more := p.with(p.with(a, []string{"x", "y"}, nil), nil, []string{"y"})
	if more == a || !more.has("x") || more.has("y") || a.has("x") || more.len() != 101 {
		t.Fatal("a set was changed")
	}
	if p.with(more, []string{"z"}, []string{"z", "x"}) != a {
		t.Fatal("the same set by another way is another one")
	}
	add("gone")
	runtime.KeepAlive(more)
	a, b, more = nil, nil, nil
	// Cleanups run after a collection, in their own time.
	for range 1000 {
		runtime.GC()
		p.mu.Lock()
		n := len(p.sets)
		p.mu.Unlock()
		if n == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Error("sets that nobody has are kept")
}
