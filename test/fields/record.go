package fields

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Record of tests: kind, field, names of the tests that set it.
type Record map[resource.Type]map[Field][]string

// Recorder notes what tests apply. It is safe for tests that run side by side.
type Recorder struct {
	// Kinds are those that are noted. They are set before the tests run.
	Kinds []Subject

	mu   sync.Mutex
	seen Record
}

// Applied notes that a test applies a document.
func (r *Recorder) Applied(t testing.TB, doc string) {
	kind, list := Used(doc, r.Kinds)
	if kind == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = Record{}
	}
	r.seen.add(kind, list, t.Name())
}

func (r Record) add(kind resource.Type, list []Field, by string) {
	if r[kind] == nil {
		r[kind] = map[Field][]string{}
	}
	for _, f := range list {
		if !slices.Contains(r[kind][f], by) {
			r[kind][f] = append(r[kind][f], by)
		}
	}
}

// Main runs the tests of a package and then compares what they applied with the
// file in which that is kept. It is for TestMain. With the flag -update the file
// is written. A run of some tests only is not compared.
func (r *Recorder) Main(m *testing.M, file string) int {
	update := flag.Bool("update", false, "write "+file)
	flag.Parse()
	if code := m.Run(); code != 0 || !whole() {
		return code
	}
	got := r.seen.text(r.Kinds)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, got) {
		fmt.Fprintf(os.Stderr, "FAIL: what the tests apply is not what %s says: run make policy-tables\n%s", file, difference(old, got))
		return 1
	}
	return 0
}

// whole tells whether no test was left out.
func whole() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}

// text is one line for each field that is in a schema: kind, field, the first
// test that sets it.
func (r Record) text(kinds []Subject) []byte {
	var b bytes.Buffer
	for _, s := range kinds {
		for _, f := range s.Fields {
			if tests := r[s.Kind.Type][f]; len(tests) > 0 {
				fmt.Fprintln(&b, s.Kind.Type, f, slices.Min(tests))
			}
		}
	}
	return b.Bytes()
}

// ReadRecord reads what Main wrote.
func ReadRecord(file string) (Record, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := Record{}
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		kind, rest, _ := strings.Cut(s.Text(), " ")
		at := strings.LastIndexByte(rest, ' ')
		if at < 0 {
			return nil, fmt.Errorf("%s: %q is not a line of three words", file, s.Text())
		}
		r.add(resource.Type(kind), []Field{Field(rest[:at])}, rest[at+1:])
	}
	return r, s.Err()
}

// difference lists lines that only one side has, with - and +.
func difference(old, got []byte) string {
	lines := func(b []byte) map[string]bool {
		out := map[string]bool{}
		for l := range strings.Lines(string(b)) {
			out[l] = true
		}
		return out
	}
	a, b := lines(old), lines(got)
	var out strings.Builder
	for _, l := range slices.Sorted(maps.Keys(a)) {
		if !b[l] {
			out.WriteString("- " + l)
		}
	}
	for _, l := range slices.Sorted(maps.Keys(b)) {
		if !a[l] {
			out.WriteString("+ " + l)
		}
	}
	return out.String()
}
