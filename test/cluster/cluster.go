// Package cluster runs a whole Atoll on one machine for tests and the demo:
// control planes, agents with their Envoys, databases and applications, all as
// real processes that can be stopped, killed and started again. Proxies live on
// loopback addresses of their own.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Options say where things are. All may be empty.
type Options struct {
	Dir   string // for work folders and logs; default a temporary one
	Bin   string // folder of atoll-cp, atoll-dp and atollctl; default build/bin of this repository
	Envoy string // default $ENVOY, then PATH, then build/envoy/envoy of this repository
}

// Cluster is a set of running processes.
type Cluster struct {
	Dir   string
	Bin   string
	Envoy string

	// Keep leaves a temporary folder in place when the cluster is closed, for its
	// logs.
	Keep bool

	temporary bool
	subnet    string // first three numbers of the loopback addresses

	mu        sync.Mutex // guards the rest
	processes []*Process
	host      int
}

// New prepares a cluster in which nothing runs yet.
func New(o Options) (*Cluster, error) {
	c := &Cluster{Dir: o.Dir, Bin: o.Bin, Envoy: o.Envoy, host: 1}
	root, err := Repository()
	if err != nil {
		return nil, err
	}
	if c.Bin == "" {
		c.Bin = filepath.Join(root, "build", "bin")
	}
	for _, name := range []string{"atoll-cp", "atoll-dp", "atollctl"} {
		if _, err := os.Stat(filepath.Join(c.Bin, name)); err != nil {
			return nil, fmt.Errorf("%w; run make build", err)
		}
	}
	if c.Envoy == "" {
		if c.Envoy, err = findEnvoy(root); err != nil {
			return nil, err
		}
	}
	if c.Dir == "" {
		c.temporary = true
		if c.Dir, err = os.MkdirTemp("", "atoll-"); err != nil {
			return nil, err
		}
	}
	// Several clusters may run at the same time on a machine.
	c.subnet = fmt.Sprintf("127.%d.%d", 1+rand.IntN(254), rand.IntN(256))
	return c, nil
}

// Close stops everything that was started, youngest first, and removes the
// folder if the cluster made it. It is safe to call more than once.
func (c *Cluster) Close() error {
	c.mu.Lock()
	list := slices.Clone(c.processes)
	c.processes = nil
	c.mu.Unlock()
	for _, p := range slices.Backward(list) {
		p.Kill() // nothing here has to survive
	}
	if c.temporary && !c.Keep {
		return os.RemoveAll(c.Dir)
	}
	return nil
}

// Address returns a loopback address that no other proxy of the cluster has.
func (c *Cluster) Address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host++
	return fmt.Sprintf("%s.%d", c.subnet, c.host)
}

// Repository returns the root of this source tree: the nearest folder upwards
// that has a go.mod.
func Repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the repository: no go.mod in this folder or above")
		}
		dir = parent
	}
}

func findEnvoy(root string) (string, error) {
	if p := os.Getenv("ENVOY"); p != "" {
		return p, nil
	}
	if p, err := exec.LookPath("envoy"); err == nil {
		return p, nil
	}
	p := filepath.Join(root, "build", "envoy", "envoy")
	if _, err := os.Stat(p); err != nil {
		return "", errors.New("no Envoy: run make tools")
	}
	return p, nil
}

// look is how often conditions of other processes are looked at, of which there
// is no event.
const look = 10 * time.Millisecond

// Until returns nil once met does. After the end of ctx it returns what met said
// last before that.
func Until(ctx context.Context, what string, met func(context.Context) error) error {
	t := time.NewTicker(look)
	defer t.Stop()
	var err error
	for {
		said := met(ctx)
		if said == nil {
			return nil
		}
		if err == nil || ctx.Err() == nil {
			err = said
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), err)
		}
	}
}
