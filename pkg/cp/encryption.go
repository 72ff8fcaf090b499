package cp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/sealed"
)

// seal puts encryption of secrets around a store. It fails when something in the
// store is sealed with a key that is not configured: a control plane that went on
// without would take its secrets for gone, and so would its zones.
func (p *plane) seal(ctx context.Context, st store.Store) (*sealed.Store, error) {
	ring, err := p.keys(ctx, st)
	if err != nil {
		return nil, err
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

// keys are those of the settings. Without any, a database file that one process
// has for itself gets a key of its own, in a file beside it; a database that others
// share cannot, since they would have to have that file, too.
func (p *plane) keys(ctx context.Context, st store.Store) (*sealed.Ring, error) {
	c := p.cfg.Store.Encryption
	path := c.KeyFile
	if path == "" && c.Key == "" && c.Generate && p.cfg.Store.Type == config.StoreSQLite {
		path = sqlitePath(p.cfg) + ".key"
		switch _, err := os.Stat(path); {
		case errors.Is(err, fs.ErrNotExist):
			if err := p.makeKey(ctx, st, path); err != nil {
				return nil, fmt.Errorf("store.encryption: %w", err)
			}
		case err != nil:
			return nil, fmt.Errorf("store.encryption: %w", err)
		}
	}
	if path == "" {
		ring, err := sealed.NewRing([]byte(string(c.Key)))
		if err != nil {
			return nil, fmt.Errorf("store.encryption.key: %w", err)
		}
		return ring, nil
	}
	ring, err := sealed.NewFileRing(path)
	if err != nil {
		return nil, fmt.Errorf("store.encryption.keyFile: %w", err)
	}
	return ring, nil
}

func (p *plane) makeKey(ctx context.Context, st store.Store, path string) error {
	has, err := sealed.IsSealed(ctx, st)
	if err != nil {
		return err
	}
	if has {
		return fmt.Errorf("secrets in the database are encrypted, but %s is missing: put it back, or set store.encryption.keyFile to the file with the key", path)
	}
	if err := sealed.MakeFile(path); err != nil {
		return err
	}
	p.log.Warn("a key was made that encrypts the secrets in the database: keep it safe, and apart from backups of the database, which cannot be read without it", "file", path)
	return nil
}

// reseal is the leader's job that brings all secrets under the newest key.
func (p *plane) reseal(ctx context.Context) error {
	return p.sealed.Reseal(ctx, store.ControlPlane, p.log)
}
