package compile

// work is building what several plans want, each thing once.
type work[K comparable, T any] struct {
	have  map[K]*shared[T]
	made  map[K]T
	order []task[K]
	build func(*plan, int) T
}

type task[K comparable] struct {
	key K
	p   *plan
	i   int
}

func newWork[K comparable, T any](have map[K]*shared[T], build func(*plan, int) T) *work[K, T] {
	return &work[K, T]{have: have, made: map[K]T{}, build: build}
}

// want adds what a plan needs and nobody has.
func (w *work[K, T]) want(p *plan, keys []K) {
	for i, k := range keys {
		if w.have[k] != nil {
			continue
		}
		if _, asked := w.made[k]; asked {
			continue
		}
		var zero T
		w.made[k] = zero
		w.order = append(w.order, task[K]{k, p, i})
	}
}

// run builds it all and returns how many things that were.
func (w *work[K, T]) run() uint64 {
	out := make([]T, len(w.order))
	each(len(w.order), func(i int) { out[i] = w.build(w.order[i].p, w.order[i].i) })
	for i, t := range w.order {
		w.made[t.key] = out[i]
	}
	return uint64(len(out))
}

// fill returns for each key what was there or was made.
func (w *work[K, T]) fill(keys []K, into []T) {
	for i, k := range keys {
		if s := w.have[k]; s != nil {
			into[i] = s.value
		} else {
			into[i] = w.made[k]
		}
	}
}

func retain[K comparable, T any](m map[K]*shared[T], key K, value T) {
	s := m[key]
	if s == nil {
		s = &shared[T]{value: value}
		m[key] = s
	}
	s.users++
}

func release[K comparable, T any](m map[K]*shared[T], key K) {
	if s := m[key]; s != nil {
		if s.users--; s.users == 0 {
			delete(m, key)
		}
	}
}
