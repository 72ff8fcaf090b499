package cp

import "github.com/atoll-mesh/atoll/pkg/control"

// history makes the job that forgets what is older than the settings say.
func (p *plane) history() *control.History {
	h := p.cfg.Store.History
	return &control.History{View: p.view, Store: p.store, Log: p.log, Revisions: uint64(h.Revisions), Age: h.Age.Duration}
}
