package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/agent/dynamic"
)

// admin is Envoy's own administration interface.
type admin struct {
	network, address string
	client           *http.Client
	pid              atomic.Int64 // of the Envoy that runs, or ran last
	log              *slog.Logger
	told             *dynamic.Source // nil: nobody reads what the agent is told
}

// push has what the agent is told looked at; see dynamic.Source.
func (a *admin) push(on bool) {
	if a.told != nil {
		a.told.Push(on)
	}
}

// adminTimeout bounds one call; they are answered from memory.
const adminTimeout = 2 * time.Second

// adminOf finds the interface in a bootstrap document.
func adminOf(bootstrap []byte) (*admin, error) {
	var doc struct {
		Admin struct {
			Address struct {
				Pipe *struct {
					Path string `json:"path"`
				} `json:"pipe"`
				Socket *struct {
					Address string `json:"address"`
					Port    uint32 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"address"`
		} `json:"admin"`
	}
	if err := yaml.Unmarshal(bootstrap, &doc); err != nil {
		return nil, fmt.Errorf("the control plane's bootstrap document cannot be read: %w", err)
	}
	a := doc.Admin.Address
	switch {
	case a.Pipe != nil:
		return newAdmin("unix", a.Pipe.Path), nil
	case a.Socket != nil:
		return newAdmin("tcp", net.JoinHostPort(a.Socket.Address, fmt.Sprint(a.Socket.Port))), nil
	}
	return nil, errors.New("the control plane's bootstrap document has no admin address")
}

func newAdmin(network, address string) *admin {
	return &admin{network: network, address: address, log: slog.New(slog.DiscardHandler), client: &http.Client{
		Timeout: adminTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true, // a restarted Envoy has new sockets
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
		},
	}}
}

func (a *admin) call(ctx context.Context, method, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("envoy's admin at %s: %w", a.address, err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

func (a *admin) post(ctx context.Context, path string) error {
	status, body, err := a.call(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("envoy's admin answers %d to %s: %s", status, path, body)
	}
	return nil
}
