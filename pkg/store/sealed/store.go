// Package sealed encrypts secrets on their way into a store and decrypts them on
// their way out, rows and log alike, so that neither a dump of the database nor a
// lost disk gives them away. Whoever uses the store sees clear text and equal
// content as ever.
package sealed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// Store is a store whose records of some types are sealed. Without keys it keeps
// them in clear and opens nothing.
type Store struct {
	store.Store
	ring  *Ring
	types map[resource.Type]bool
}

// Wrap seals records of these types in st with the keys of ring.
func Wrap(st store.Store, ring *Ring, types ...resource.Type) *Store {
	s := &Store{Store: st, ring: ring, types: map[resource.Type]bool{}}
	for _, t := range types {
		s.types[t] = true
	}
	return s
}

// Write has the meaning that store.Store gives it.
func (s *Store) Write(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	keys := s.ring.Keys()
	if keys.Active() == "" {
		return s.Store.Write(ctx, ops...)
	}
	sealed := ops
	for i := range ops {
		if ops[i].Delete || !s.types[ops[i].Type] {
			continue
		}
		if &sealed[0] == &ops[0] {
			sealed = slices.Clone(ops)
		}
		if err := sealRecord(keys, &sealed[i].Record); err != nil {
			return 0, fmt.Errorf("%s: seal: %w", ops[i].ID, err)
		}
	}
	return s.Store.Write(ctx, sealed...)
}

func sealRecord(keys *Keys, r *store.Record) (err error) {
	// An empty spec is sealed too: what is stored tells nothing.
	if r.Spec, err = keys.seal(r.ID, spec, r.Spec); err != nil {
		return err
	}
	if len(r.Status) > 0 {
		r.Status, err = keys.seal(r.ID, status, r.Status)
	}
	return err
}

// Read has the meaning that store.Store gives it. It fails, with ErrNoKey or
// ErrDamaged, when a commit holds what cannot be opened: readers then stay at what
// they know instead of taking a secret for gone.
func (s *Store) Read(ctx context.Context, after store.Revision, limit int) (store.Batch, error) {
	b, err := s.Store.Read(ctx, after, limit)
	if err != nil {
		return b, err
	}
	for i := range b.Commits {
		c := &b.Commits[i]
		for j := range c.Changes {
			ch := &c.Changes[j]
			if ch.Record == nil || !s.types[ch.Type] {
				continue
			}
			opened, err := s.opened(*ch.Record)
			if err != nil {
				return store.Batch{}, fmt.Errorf("revision %d: %w", c.Revision, err)
			}
			// What a store returns may be its own: change copies only.
			b.Commits = slices.Clone(b.Commits)
			c = &b.Commits[i]
			c.Changes = slices.Clone(c.Changes)
			c.Changes[j].Record = &opened
		}
	}
	return b, nil
}

// Snapshot has the meaning that store.Store gives it. Like Read it fails when a
// record cannot be opened.
func (s *Store) Snapshot(ctx context.Context) (iter.Seq2[store.Record, error], store.Revision, error) {
	rows, rev, err := s.Store.Snapshot(ctx)
	if err != nil {
		return nil, 0, err
	}
	return func(yield func(store.Record, error) bool) {
		for r, err := range rows {
			if err == nil && s.types[r.Type] {
				r, err = s.opened(r)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}, rev, nil
}

// opened returns a record in clear. A key that is not known may have come with
// the file since.
func (s *Store) opened(r store.Record) (store.Record, error) {
	out, err := openRecord(s.ring.Keys(), r)
	if errors.Is(err, ErrNoKey) {
		if changed, _ := s.ring.Reload(); changed {
			return openRecord(s.ring.Keys(), r)
		}
	}
	return out, err
}

func openRecord(keys *Keys, r store.Record) (store.Record, error) {
	for _, v := range []struct {
		part  part
		value *[]byte
	}{{spec, &r.Spec}, {status, &r.Status}} {
		if _, ok := isSealed(*v.value); !ok {
			continue // from before there were keys
		}
		clear, err := keys.open(r.ID, v.part, *v.value)
		if err != nil {
			return r, err
		}
		*v.value = clear
		if len(clear) == 0 {
			*v.value = nil
		}
	}
	return r, nil
}

// IsSealed tells whether st holds a record that is sealed with some key.
func IsSealed(ctx context.Context, st store.Store) (bool, error) {
	rows, _, err := st.Snapshot(ctx)
	if err != nil {
		return false, err
	}
	for r, err := range rows {
		if err != nil {
			return false, err
		}
		if _, sealed := isSealed(r.Spec); sealed {
			return true, nil
		}
	}
	return false, nil
}

// Check opens every sealed record and returns the first error: a control plane
// that lacks a key must not start and take secrets for gone.
func (s *Store) Check(ctx context.Context) error {
	rows, _, err := s.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, err := range rows {
		if err != nil {
			return err
		}
	}
	return nil
}
