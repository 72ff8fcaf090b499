package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/atoll-mesh/atoll/test/ports"
)

// readyTime bounds the start of a control plane.
const readyTime = 40 * time.Second

// ControlPlane is a global or a zone.
type ControlPlane struct {
	*Process
	API
	Zone     string // empty: a global
	WorkDir  string
	DPPort   int // of the server for proxies
	KDSPort  int // of the server for zones
	MADSPort int // of the server for Prometheus
	ready    string
}

// Postgres is where a database can be reached.
type Postgres struct {
	Host                   string
	Port                   int
	User, Password, DBName string
}

func (p *Postgres) env() []string {
	return []string{
		"ATOLL_STORE_TYPE=postgres",
		"ATOLL_STORE_POSTGRES_HOST=" + p.Host,
		fmt.Sprintf("ATOLL_STORE_POSTGRES_PORT=%d", p.Port),
		"ATOLL_STORE_POSTGRES_USER=" + p.User,
		"ATOLL_STORE_POSTGRES_PASSWORD=" + p.Password,
		"ATOLL_STORE_POSTGRES_DB_NAME=" + p.DBName,
	}
}

// Global starts a global and waits until it is ready. Without a database it
// keeps its state in SQLite. env may override any setting.
func (c *Cluster) Global(ctx context.Context, db *Postgres, env ...string) (*ControlPlane, error) {
	settings := []string{"ATOLL_MODE=global", "ATOLL_STORE_TYPE=sqlite"}
	if db != nil {
		settings = append([]string{"ATOLL_MODE=global"}, db.env()...)
	}
	return c.controlPlane(ctx, "global", "", append(settings, env...))
}

// FederatedZone starts a zone of a global, with a token that the global issues,
// and waits until it is ready.
func (c *Cluster) FederatedZone(ctx context.Context, global *ControlPlane, name string, env ...string) (*ControlPlane, error) {
	var token string
	err := global.Do(ctx, http.MethodPost, "/tokens/zone", map[string]any{
		"zone": name, "scope": []string{"cp"}, "validFor": "24h",
	}, &token)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(c.Dir, name+".token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		return nil, err
	}
	return c.Zone(ctx, name, append([]string{
		fmt.Sprintf("ATOLL_MULTIZONE_ZONE_GLOBAL_ADDRESS=grpcs://127.0.0.1:%d", global.KDSPort),
		"ATOLL_MULTIZONE_ZONE_KDS_ROOT_CA_FILE=" + global.CAFile(),
		"ATOLL_MULTIZONE_ZONE_KDS_AUTH_CP_TOKEN_PATH=" + file,
	}, env...)...)
}

// Zone starts a zone and waits until it is ready.
func (c *Cluster) Zone(ctx context.Context, name string, env ...string) (*ControlPlane, error) {
	return c.controlPlane(ctx, name, name, append([]string{
		"ATOLL_MODE=zone", "ATOLL_MULTIZONE_ZONE_NAME=" + name, "ATOLL_STORE_TYPE=sqlite",
	}, env...))
}

func (c *Cluster) controlPlane(ctx context.Context, name, zone string, env []string) (*ControlPlane, error) {
	port, err := ports.Free("127.0.0.1", 6)
	if err != nil {
		return nil, err
	}
	cp := &ControlPlane{
		Zone: zone, WorkDir: filepath.Join(c.Dir, name), DPPort: port[1], KDSPort: port[2], MADSPort: port[5],
		API:   API{URL: fmt.Sprintf("http://127.0.0.1:%d", port[0])},
		ready: fmt.Sprintf("http://127.0.0.1:%d/ready", port[3]),
	}
	if err := os.MkdirAll(cp.WorkDir, 0o755); err != nil {
		return nil, err
	}
	cp.Process = c.Process(name, append([]string{
		"ATOLL_GENERAL_WORK_DIR=" + cp.WorkDir,
		"ATOLL_API_SERVER_HTTP_INTERFACE=127.0.0.1",
		fmt.Sprintf("ATOLL_API_SERVER_HTTP_PORT=%d", port[0]),
		"ATOLL_API_SERVER_HTTPS_ENABLED=false",
		fmt.Sprintf("ATOLL_DP_SERVER_PORT=%d", port[1]),
		fmt.Sprintf("ATOLL_MULTIZONE_GLOBAL_KDS_GRPC_PORT=%d", port[2]),
		fmt.Sprintf("ATOLL_DIAGNOSTICS_SERVER_PORT=%d", port[3]),
		fmt.Sprintf("ATOLL_INTER_CP_SERVER_PORT=%d", port[4]),
		fmt.Sprintf("ATOLL_MONITORING_ASSIGNMENT_SERVER_PORT=%d", port[5]),
	}, env...), filepath.Join(c.Bin, "atoll-cp"), "run")
	return cp, cp.Start(ctx)
}

// Start runs the control plane and waits until it is ready.
func (cp *ControlPlane) Start(ctx context.Context) error {
	if err := cp.Process.Start(); err != nil {
		return err
	}
	return cp.WaitReady(ctx)
}

// WaitReady waits until the control plane serves.
func (cp *ControlPlane) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	err := Until(ctx, cp.Name+" is not ready", func(ctx context.Context) error {
		if err := cp.Exited(); err != nil {
			cancel()
			return err
		}
		return get(ctx, cp.ready)
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, cp.Tail(2000))
	}
	return nil
}

// CAFile is what those who connect to this control plane have to trust.
func (cp *ControlPlane) CAFile() string { return filepath.Join(cp.WorkDir, "atoll-cp.crt") }

// WaitFor waits until a resource can be read, at most for the time given.
func (cp *ControlPlane) WaitFor(ctx context.Context, limit time.Duration, path string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return Until(ctx, cp.Name+" has no "+path, func(ctx context.Context) error {
		return cp.Do(ctx, http.MethodGet, path, nil, nil)
	})
}

// Has waits until a list of resources has one that was created under a name,
// wherever that was: sync gives it another name.
func (cp *ControlPlane) Has(ctx context.Context, limit time.Duration, list, name string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return Until(ctx, cp.Name, func(ctx context.Context) error {
		var out struct {
			Items []struct {
				Labels map[string]string `json:"labels"`
			} `json:"items"`
		}
		if err := cp.Do(ctx, http.MethodGet, list+"?size=1000", nil, &out); err != nil {
			return err
		}
		for _, i := range out.Items {
			if i.Labels["kuma.io/display-name"] == name {
				return nil
			}
		}
		return fmt.Errorf("%s has no %s", list, name)
	})
}

// Online tells whether a zone is connected to this global, and how many
// revisions it is behind in what it receives.
func (cp *ControlPlane) Online(ctx context.Context, zone string) (online bool, lag int64, err error) {
	var out struct {
		Insight struct {
			Subscriptions []struct {
				ConnectTime    *time.Time `json:"connectTime"`
				DisconnectTime *time.Time `json:"disconnectTime"`
			} `json:"subscriptions"`
			Sync struct {
				GlobalToZone syncState `json:"globalToZone"`
			} `json:"sync"`
		} `json:"zoneInsight"`
	}
	if err := cp.Do(ctx, http.MethodGet, "/zones/"+zone+"/_overview", nil, &out); err != nil {
		return false, 0, err
	}
	for _, s := range out.Insight.Subscriptions {
		online = online || s.ConnectTime != nil && s.DisconnectTime == nil
	}
	st := out.Insight.Sync.GlobalToZone
	return online, st.GlobalRevision.n - st.AppliedRevision.n, nil
}

// ErrLags is the reason why WaitInSync still waits.
var ErrLags = errors.New("the zone is behind")

// WaitInSync waits until a zone is connected and has everything.
func (cp *ControlPlane) WaitInSync(ctx context.Context, limit time.Duration, zone string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return Until(ctx, "zone "+zone, func(ctx context.Context) error {
		online, lag, err := cp.Online(ctx, zone)
		switch {
		case err != nil:
			return err
		case !online:
			return errors.New("it is not connected")
		case lag != 0:
			return fmt.Errorf("%w: %d revisions", ErrLags, lag)
		}
		return nil
	})
}
