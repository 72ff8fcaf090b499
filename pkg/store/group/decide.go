package group

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/lease"
)

// Stored is what a decision needs of a record that exists.
type Stored struct {
	Version store.Revision
	Created time.Time
}

// Decide settles each call against what is stored and returns the changes of
// those that apply, as revision next. A call whose expectation or fence does not
// hold is left out; its Write returns why. Without changes the caller uses no
// revision. The changes share no memory with the ops.
func Decide(calls []*Call, stored map[resource.ID]Stored, holds func(lease.Fence) bool, next store.Revision, now time.Time) []store.Change {
	now = Timestamp(now)
	var changes []store.Change
	for _, c := range calls {
		if c.refused = refusal(c, stored, holds); c.refused != nil {
			continue
		}
		for i := range c.Ops {
			op := &c.Ops[i]
			old, exists := stored[op.ID]
			switch {
			case !op.Delete:
				changes = append(changes, store.Change{ID: op.ID, Record: record(op, old, exists, next, now), Author: op.Author})
			case exists:
				changes = append(changes, store.Change{ID: op.ID, Author: op.Author})
			}
		}
	}
	return changes
}

// Timestamp gives a time the precision that every store keeps.
func Timestamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func refusal(c *Call, stored map[resource.ID]Stored, holds func(lease.Fence) bool) error {
	for _, f := range c.Fences {
		if !holds(f) {
			return fmt.Errorf("write as holder %q of lease %q: %w", f.Holder, f.Name, store.ErrNotLeader)
		}
	}
	for i := range c.Ops {
		op := &c.Ops[i]
		old, exists := stored[op.ID]
		switch {
		case op.Expect == store.Any:
		case op.Expect == store.Absent && exists:
			return fmt.Errorf("%s: %w: it exists already, at version %d", op.ID, store.ErrConflict, old.Version)
		case op.Expect == store.Absent:
		case !exists:
			return fmt.Errorf("%s: %w: version %d was expected and it does not exist", op.ID, store.ErrConflict, op.Expect)
		case old.Version != store.Revision(op.Expect):
			return fmt.Errorf("%s: %w: version %d was expected and %d is stored; read it again", op.ID, store.ErrConflict, op.Expect, old.Version)
		}
	}
	return nil
}

func record(op *store.Op, old Stored, exists bool, next store.Revision, now time.Time) *store.Record {
	r := &store.Record{
		ID:       op.ID,
		Spec:     some(op.Spec),
		Status:   some(op.Status),
		Version:  next,
		Created:  now,
		Modified: now,
	}
	if len(op.Labels) > 0 {
		r.Labels = maps.Clone(op.Labels)
	}
	if exists {
		r.Created = old.Created
	}
	if !op.Modified.IsZero() {
		r.Modified = Timestamp(op.Modified)
	}
	return r
}

// some copies bytes. Empty and absent are one thing to a store: nil.
func some(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

// check refuses ops that no store may take, so that all stores take the same.
func check(ops []store.Op) error {
	seen := make(map[resource.ID]struct{}, len(ops))
	for i := range ops {
		op := &ops[i]
		if op.Type == "" || op.Name == "" {
			return fmt.Errorf("write: op %d (%q): a resource needs a type and a name", i, op.ID)
		}
		if _, twice := seen[op.ID]; twice {
			return fmt.Errorf("%s: two ops of one write name it; merge them", op.ID)
		}
		seen[op.ID] = struct{}{}
		if op.Expect < store.Any {
			return fmt.Errorf("%s: expected version %d is neither Any, Absent nor a version", op.ID, op.Expect)
		}
		if !text(string(op.Type), op.Mesh, op.Name, op.Author) {
			return fmt.Errorf("%q: type, mesh, name and author must be valid UTF-8 without NUL", op.ID)
		}
		for k, v := range op.Labels {
			if !text(k, v) {
				return fmt.Errorf("%s: label %q must be valid UTF-8 without NUL", op.ID, k)
			}
		}
	}
	return nil
}

func text(ss ...string) bool {
	for _, s := range ss {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return false
		}
	}
	return true
}
