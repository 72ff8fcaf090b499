package changelog

import (
	"errors"
	"fmt"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/store"
)

// table gives revision i sizes[i-1] rows; 0 is a gap.
func table(sizes ...int) Fetch {
	return func(after, upTo store.Revision, limit int) (Page, error) {
		p := Page{Head: store.Revision(len(sizes))}
		for rev := after + 1; rev <= min(upTo, p.Head); rev++ {
			for range sizes[rev-1] {
				if limit == 0 || len(p.Rows) < limit {
					p.Rows = append(p.Rows, Row{Revision: rev})
				}
			}
		}
		return p, nil
	}
}

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name  string
		sizes []int
		after store.Revision
		limit int
		want  string // revision×changes of each commit
	}{
		{"all", []int{1, 2, 3}, 0, 0, "1×1 2×2 3×3"},
		{"at the head", []int{1, 2, 3}, 3, 0, ""},
		{"limit", []int{1, 2, 3}, 1, 1, "2×2"},
		{"the last would be cut", []int{maxRows - 1, 2, 1}, 0, 0, "1×3999"},
		{"the last just fits", []int{maxRows - 1, 1, 1}, 0, 0, "1×3999"}, // it cannot be told from a cut one
		{"one that is too large", []int{maxRows + 5, 1}, 0, 0, "1×4005"},
		{"one that is exactly as large", []int{maxRows, 1}, 0, 0, "1×4000"},
	} {
		b, err := Read(c.after, c.limit, table(c.sizes...))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got := ""
		for i, commit := range b.Commits {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%d×%d", commit.Revision, len(commit.Changes))
		}
		if got != c.want || int(b.Head) != len(c.sizes) {
			t.Errorf("%s: %q, head %d; want %q", c.name, got, b.Head, c.want)
		}
	}
}

func TestGaps(t *testing.T) {
	for name, sizes := range map[string][]int{"first": {0, 1}, "middle": {1, 0, 1}, "all": {0}} {
		if b, err := Read(0, 0, table(sizes...)); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("%s: %+v, %v; want ErrCompacted", name, b, err)
		}
	}
}
