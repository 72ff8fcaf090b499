package cp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/dpserver"
	"github.com/atoll-mesh/atoll/pkg/kds"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/replica"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/rest"
)

// asker answers a question about a proxy, or says replica.ErrElsewhere.
type asker func(context.Context, replica.Question) ([]byte, error)

// replicas opens the socket where others with the same store ask, and makes what
// is to run there. It is nil for stores that no other process can have.
func (p *plane) replicas(answer asker) (*replica.Replica, error) {
	if p.cfg.Store.Type != config.StorePostgres {
		return nil, nil
	}
	c := p.cfg.InterCP
	l, err := net.Listen("tcp", listenAddress("", c.Server.Port))
	if err != nil {
		return nil, fmt.Errorf("server for other replicas (interCp.server.port): %w", err)
	}
	host := c.Catalog.InstanceAddress
	if host == "" {
		pg := p.cfg.Store.Postgres
		host = addressToward(net.JoinHostPort(pg.Host, strconv.Itoa(pg.Port)))
	}
	r := replica.New(replica.Config{
		View: p.view, Store: p.store, Log: p.log, ID: p.instance, Answer: answer,
		Listener: l, Address: net.JoinHostPort(host, strconv.Itoa(c.Server.Port)),
	})
	return r, nil
}

// addressToward is the address of this machine from where a database is reached:
// other replicas, which reach the same one, reach this one there.
func addressToward(database string) string {
	conn, err := net.Dial("udp", database) // which sends nothing
	if err != nil {
		return "127.0.0.1" // a socket of this machine
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String()
}

// runReplicas makes this process known to the others.
func runReplicas(run runFunc, r *replica.Replica) {
	if r != nil {
		run("replicas", r.Run)
	}
}

// through has questions answered by whichever replica can, or by all together.
func through(r *replica.Replica, here asker) asker {
	if r == nil {
		return here
	}
	return func(ctx context.Context, q replica.Question) ([]byte, error) {
		if q.Type == string(kind.ZoneTraffic) && q.Zone == "" {
			parts, err := r.AskAll(ctx, q)
			if err != nil {
				return nil, err
			}
			return sumFollowing(parts)
		}
		return r.Ask(ctx, q)
	}
}

// bury ends what replicas leave open that die; nil where there are none.
func bury(r *replica.Replica, end func(context.Context, string) error) func(context.Context) error {
	if r == nil {
		return nil
	}
	return func(ctx context.Context) error { return r.Bury(ctx, end) }
}

// askingProxies answers what agents that are connected here can be asked.
func askingProxies(dp *dpserver.Server) asker {
	return func(ctx context.Context, q replica.Question) ([]byte, error) {
		if zone, mark, ok := kind.ZoneOfQuestion(q.Name); ok && q.Type == string(kind.ZoneTraffic) {
			return json.Marshal(dp.Following(zone, mark))
		}
		if q.Type != "" && q.Type != string(kind.Dataplane) {
			return nil, fmt.Errorf("%s: only resources of type Dataplane have a proxy to ask", q.Type)
		}
		id := resource.ID{Type: kind.Dataplane, Mesh: q.Mesh, Name: q.Name}
		var b []byte
		var err error
		switch q.Ask {
		case rest.AskConfig:
			b, err = dp.ConfigDump(ctx, id, q.IncludeEDS)
		case rest.AskStats:
			b, err = dp.Stats(ctx, id, q.UsedOnly, q.JSON)
		default:
			b, err = dp.Clusters(ctx, id, q.JSON)
		}
		return b, elsewhere(err, dpserver.ErrNotReachable)
	}
}

// askingZones answers what zones that are connected here can be asked.
func askingZones(g func() *kds.Global) asker {
	return func(ctx context.Context, q replica.Question) ([]byte, error) {
		question := kds.AdminQuestion{Type: q.Type, Mesh: q.Mesh, Name: q.Name, IncludeEDS: q.IncludeEDS, UsedOnly: q.UsedOnly, JSON: q.JSON}
		var b []byte
		var err error
		switch q.Ask {
		case rest.AskConfig:
			b, err = g().AskConfig(ctx, q.Zone, question)
		case rest.AskStats:
			b, err = g().AskStats(ctx, q.Zone, question)
		default:
			b, err = g().AskClusters(ctx, q.Zone, question)
		}
		return b, elsewhere(err, kds.ErrElsewhere)
	}
}

// elsewhere marks an error that means that another replica may know.
func elsewhere(err, means error) error {
	if errors.Is(err, means) {
		return notHere{err}
	}
	return err
}

// notHere is an error that is a replica.ErrElsewhere too.
type notHere struct{ error }

func (e notHere) Unwrap() error      { return e.error }
func (notHere) Is(target error) bool { return target == replica.ErrElsewhere }
