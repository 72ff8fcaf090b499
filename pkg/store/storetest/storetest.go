// Package storetest is the contract of store.Store in executable form. Every
// implementation runs it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// Run tests an implementation. Each call of open gives a new, empty store, which
// open closes when the test ends.
func Run(t *testing.T, open func(testing.TB) store.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"records come back as they were put", testRoundTrip},
		{"versions are revisions and creation times stay", testVersions},
		{"expectations", testExpectations},
		{"a batch applies whole or not at all", testAtomicBatch},
		{"what changes nothing uses no revision", testNoChange},
		{"ops that no store takes", testBadOps},
		{"a write given up before its commit writes nothing", testGivenUp},
		{"16 writers: revisions in order, without gaps", testOrder},
		{"conflicts leave others alone", testConflictsApart},
		{"writers of one resource", testSameID},
		{"linearizable per key", testLinearizable},
		{"reading resumes anywhere", testResume},
		{"a commit is never split", testLargeCommit},
		{"compaction", testCompaction},
		{"where the log begins, and when", testFloor},
		{"doorbells", testDoorbells},
		{"lost doorbells lose nothing", testLostDoorbells},
		{"a snapshot is one revision", testSnapshot},
		{"snapshots during writes", testSnapshotsDuringWrites},
		{"leases exclude each other", testLeases},
		{"fences", testFences},
		{"leadership moves while writes go on", testLeadershipMoves},
		{"a closed store says so", testClose},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func id(name string) resource.ID {
	return resource.ID{Type: "MeshTimeout", Mesh: "default", Name: name}
}

// put is an op that stores a text.
func put(name, text string, expect int64) store.Op {
	return store.Op{Record: store.Record{ID: id(name), Spec: []byte(text)}, Expect: expect, Author: "tester"}
}

func del(name string, expect int64) store.Op {
	return store.Delete(id(name), expect, "tester")
}

func mustWrite(t testing.TB, st store.Store, ops ...store.Op) store.Revision {
	t.Helper()
	rev, err := st.Write(t.Context(), ops...)
	if err != nil {
		t.Fatalf("write: %v", err)
	}
	return rev
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// readAll reads the log from a revision to its head, and checks what every log
// promises: consecutive revisions, commits that change something, and one change
// per resource in each.
func readAll(t testing.TB, st store.Store, after store.Revision) []store.Commit {
	t.Helper()
	var all []store.Commit
	for {
		b, err := st.Read(context.WithoutCancel(t.Context()), after, 0)
		if err != nil {
			t.Fatalf("read after %d: %v", after, err)
		}
		if len(b.Commits) == 0 {
			if b.Head != after {
				t.Fatalf("nothing after %d, but the head is %d", after, b.Head)
			}
			return all
		}
		if err := Consecutive(after, b); err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Commits...)
		after = b.Commits[len(b.Commits)-1].Revision
	}
}

// Consecutive checks that a batch goes on where a reader was.
func Consecutive(after store.Revision, b store.Batch) error {
	for _, c := range b.Commits {
		if after++; c.Revision != after {
			return fmt.Errorf("revision %d came where %d was due", c.Revision, after)
		}
		if len(c.Changes) == 0 {
			return fmt.Errorf("revision %d changes nothing", c.Revision)
		}
		seen := map[resource.ID]bool{}
		for _, ch := range c.Changes {
			if seen[ch.ID] {
				return fmt.Errorf("revision %d changes %s twice", c.Revision, ch.ID)
			}
			seen[ch.ID] = true
			if r := ch.Record; r != nil && (r.Version != c.Revision || r.ID != ch.ID) {
				return fmt.Errorf("revision %d has %s as %s of version %d", c.Revision, ch.ID, r.ID, r.Version)
			}
		}
	}
	if after > b.Head {
		return fmt.Errorf("revision %d is beyond the head %d", after, b.Head)
	}
	return nil
}

// Contents reads a snapshot into a map.
func Contents(ctx context.Context, st store.Store) (map[resource.ID]store.Record, store.Revision, error) {
	records, rev, err := st.Snapshot(ctx)
	if err != nil {
		return nil, 0, err
	}
	all := map[resource.ID]store.Record{}
	var last resource.ID
	for r, err := range records {
		if err != nil {
			return nil, 0, err
		}
		if last.Compare(r.ID) >= 0 {
			return nil, 0, fmt.Errorf("snapshot has %s after %s", r.ID, last)
		}
		last, all[r.ID] = r.ID, r
	}
	return all, rev, nil
}

func contents(t testing.TB, st store.Store) (map[resource.ID]store.Record, store.Revision) {
	t.Helper()
	all, rev, err := Contents(context.WithoutCancel(t.Context()), st)
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return all, rev
}

// replay applies commits to an empty store.
func replay(commits []store.Commit) map[resource.ID]store.Record {
	all := map[resource.ID]store.Record{}
	for _, c := range commits {
		for _, ch := range c.Changes {
			if ch.Record == nil {
				delete(all, ch.ID)
			} else {
				all[ch.ID] = *ch.Record
			}
		}
	}
	return all
}

func number(r store.Record) int {
	n, err := strconv.Atoi(string(r.Spec))
	if err != nil {
		return -1
	}
	return n
}
