package cp

import (
	"context"
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/control"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/sealed"
)

// seal puts encryption of secrets around a store. It fails when something in the
// store is sealed with a key that is not configured: a control plane that went on
// without would take its secrets for gone, and so would its zones.
func (p *plane) seal(ctx context.Context, st store.Store) (*sealed.Store, error) {
	c := p.cfg.Store.Encryption
	var ring *sealed.Ring
	var err error
	if c.KeyFile != "" {
		if ring, err = sealed.NewFileRing(c.KeyFile); err != nil {
			return nil, fmt.Errorf("store.encryption.keyFile: %w", err)
		}
	} else if ring, err = sealed.NewRing([]byte(string(c.Key))); err != nil {
		return nil, fmt.Errorf("store.encryption.key: %w", err)
	}
	if active := ring.Keys().Active(); active != "" {
		p.log.Info("secrets are encrypted in the store", "key", active)
	} else {
		p.log.Warn("secrets are kept in clear in the store: whoever reads the database or a backup of it has all keys of this control plane. "+
			"Set store.encryption.keyFile to a file with a key, made with: openssl rand -base64 32",
			"variable", "ATOLL_STORE_ENCRYPTION_KEY_FILE")
	}
	var secret []resource.Type
	for k := range p.kinds.All() {
		if k.AdminOnly {
			secret = append(secret, k.Type)
		}
	}
	s := sealed.Wrap(st, ring, secret...)
	if err := s.Check(ctx); err != nil {
		return nil, fmt.Errorf("store.encryption: %w", err)
	}
	return s, nil
}

// reseal is the leader's job that brings all secrets under the newest key.
func (p *plane) reseal(ctx context.Context) error { return p.sealed.Reseal(ctx, control.Author, p.log) }
