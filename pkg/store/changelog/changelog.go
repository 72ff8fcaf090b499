// Package changelog turns rows of a database's log table into commits.
package changelog

import (
	"fmt"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
)

// What one Read returns at most, unless it is asked for less. The rows bound the
// memory of a reader that is far behind.
const (
	maxCommits = 1000
	maxRows    = 4000
)

// Row is one change as a log table has it.
type Row struct {
	Revision store.Revision
	Time     time.Time
	store.Change
}

// Page is what a log table holds of a range of revisions, read in one snapshot.
type Page struct {
	Rows            []Row // ordered by revision
	Compacted, Head store.Revision
}

// Fetch reads the rows of revisions after < rev ≤ upTo, at most limit of them
// when limit is not 0.
type Fetch func(after, upTo store.Revision, limit int) (Page, error)

// Read has the meaning of store.Store's Read. It never splits a commit.
func Read(after store.Revision, limit int, fetch Fetch) (store.Batch, error) {
	if limit <= 0 || limit > maxCommits {
		limit = maxCommits
	}
	page, err := fetch(after, after+store.Revision(limit), maxRows)
	if err != nil {
		return store.Batch{}, err
	}
	if len(page.Rows) == maxRows { // the last commit may be cut off
		last := page.Rows[maxRows-1].Revision
		whole := maxRows
		for whole > 0 && page.Rows[whole-1].Revision == last {
			whole--
		}
		if page.Rows = page.Rows[:whole]; whole == 0 {
			if page, err = fetch(after, last, 0); err != nil {
				return store.Batch{}, err
			}
		}
	}
	if err := store.Resumable(after, page.Compacted, page.Head); err != nil {
		return store.Batch{}, err
	}
	commits := assemble(page.Rows)
	if err := check(after, commits, page.Head); err != nil {
		return store.Batch{}, err
	}
	return store.Batch{Commits: commits, Head: page.Head}, nil
}

func assemble(rows []Row) []store.Commit {
	var commits []store.Commit
	for i := range rows {
		r := &rows[i]
		if n := len(commits); n == 0 || commits[n-1].Revision != r.Revision {
			commits = append(commits, store.Commit{Revision: r.Revision, Time: r.Time})
		}
		c := &commits[len(commits)-1]
		c.Changes = append(c.Changes, r.Change)
	}
	return commits
}

// check holds the promise of no gaps against what was read. A log that somebody
// thinned out by hand is as good as a compacted one.
func check(after store.Revision, commits []store.Commit, head store.Revision) error {
	want := after
	for i := range commits {
		if want++; commits[i].Revision != want {
			return missing(want)
		}
	}
	if len(commits) == 0 && after < head {
		return missing(after + 1)
	}
	return nil
}

func missing(rev store.Revision) error {
	return fmt.Errorf("revision %d is missing in the log: %w; take a snapshot", rev, store.ErrCompacted)
}
