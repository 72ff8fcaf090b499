// Package store defines how resources are kept durably: rows, and a log that
// numbers every committed batch. Implementations are in the folders below; the
// suite in storetest is the contract in executable form.
package store

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Revision numbers committed batches of one store: 1, 2, 3 … without gaps, in
// the order of their commits. 0 is the empty store.
type Revision uint64

// Record is one resource as stored. Spec and Status are the kind's wire
// encoding, which the store does not interpret.
type Record struct {
	resource.ID
	Labels   map[string]string
	Spec     []byte
	Status   []byte   // empty: none
	Version  Revision // revision that wrote this record
	Created  time.Time
	Modified time.Time
}

// Any, as the Expect of an Op, lets it apply whatever is stored.
// Absent lets a Put apply only if there is no such resource.
// Every other value is the version that must be stored.
const (
	Any    int64 = -1
	Absent int64 = 0
)

// ControlPlane is the author of what a control plane writes by itself.
const ControlPlane = "mesh-system:control-plane"

// Op is one change. Ops that are not Delete put a record: create or replace.
type Op struct {
	Delete bool
	// Record to put; of a Delete only the ID counts. The store assigns Version,
	// Created (kept when the resource exists) and, unless it is set, Modified.
	Record
	Expect int64  // Any, Absent, or a version
	Author string // who asked, for the history
}

// Change is one effect of a commit, as the log has it.
type Change struct {
	resource.ID
	Record *Record // nil: deleted
	Author string
}

// Commit is one revision: all its changes took effect together.
type Commit struct {
	Revision Revision
	Time     time.Time
	Changes  []Change // at most one per ID
}

// Batch is a run of consecutive commits and the newest revision of the store
// when they were read.
type Batch struct {
	Commits []Commit
	Head    Revision
}

// Errors that implementations return, wrapped with the resource and what to do.
var (
	// ErrConflict: the version stored is not the expected one, or the resource
	// exists and Absent was expected, or it is gone. Nothing was written.
	ErrConflict = errors.New("version conflict")
	// ErrCompacted: the log no longer holds what was asked for; take a Snapshot.
	ErrCompacted = errors.New("log is compacted")
	// ErrUnavailable: the database cannot be reached now. A Write that returns it
	// may or may not have been committed.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrNotLeader: the lease that was to guard a write is no longer held.
	ErrNotLeader = errors.New("leadership was lost")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Store keeps resources durably and numbers every committed batch. All methods
// may be called concurrently.
type Store interface {
	// Write applies all ops or none and returns the revision that has them, which
	// other, independent writes may share. When it returns nil the ops are
	// durable. Deleting what is not there, with Expect Any, is no error; when no
	// op changes anything the revision returned is the newest one. Putting a
	// record whose labels, spec and status equal the stored ones is a change: the
	// caller compares first. Two ops of one call may not name the same ID.
	Write(ctx context.Context, ops ...Op) (Revision, error)

	// Read returns commits after a revision, oldest first, at most limit of them
	// (limit ≤ 0: the implementation's choice). An empty batch means that after is
	// the newest revision. It returns ErrCompacted when the commit that follows
	// after is no longer kept, and when after is beyond the newest revision: the
	// database was put back to an earlier state.
	Read(ctx context.Context, after Revision, limit int) (Batch, error)

	// Snapshot reads every record as of one revision. The sequence must be
	// consumed or abandoned before ctx ends; it yields at most one error, last.
	Snapshot(ctx context.Context) (iter.Seq2[Record, error], Revision, error)

	// Doorbell returns a channel on which a value means: look again. It has room
	// for one value, so that ringing never blocks and rings before a look count
	// once. Rings may be lost with a connection; readers look again by themselves
	// every now and then. Each call makes an independent doorbell, silenced when
	// ctx ends.
	Doorbell(ctx context.Context) <-chan struct{}

	// Compact forgets commits up to and including a revision. Records stay.
	Compact(ctx context.Context, upTo Revision) error

	// Lease competes for the named lease and returns when it is held or ctx ends.
	// A holder that dies is followed after ttl at the latest.
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (Lease, error)

	// Close releases everything. Writes under way finish or fail.
	Close() error
}

// Lease is held leadership. It renews itself until released or lost.
type Lease interface {
	// Lost is closed when the lease is no longer held.
	Lost() <-chan struct{}
	// Fence guards the ops of a Write: it fails with ErrNotLeader, writing
	// nothing, when somebody else has held the lease since.
	Fence(ctx context.Context) context.Context
	// Release gives the lease up at once.
	Release(ctx context.Context) error
}
