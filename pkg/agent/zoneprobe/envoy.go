package zoneprobe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// answerWithin is longer than Envoy's own limit, after which it says itself
	// that the other side did not answer.
	answerWithin = 1500 * time.Millisecond
	// maxTargets bounds the list of targets, and maxReason what is told of a failure.
	maxTargets = 1 << 20
	maxReason  = 200
)

// Envoy asks through a listener of Envoy on a unix socket.
type Envoy struct{ client *http.Client }

// NewEnvoy uses the listener at a socket, which need not be there.
func NewEnvoy(socket string) *Envoy {
	return &Envoy{&http.Client{Timeout: answerWithin, Transport: &http.Transport{
		MaxIdleConnsPerHost: maxInFlight,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

func (e *Envoy) get(ctx context.Context, path string, limit int64) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return 0, nil, errors.Join(ErrBlind, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return 0, nil, errors.Join(ErrBlind, err)
	}
	return resp.StatusCode, body, nil
}

// Targets asks Envoy whom to ask. Without the listener the answer is ErrBlind,
// since an Envoy that restarts has none either.
func (e *Envoy) Targets(ctx context.Context) ([]Target, error) {
	status, body, err := e.get(ctx, "/targets", maxTargets)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, ErrBlind
	}
	var list []Target
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	return list, nil
}

// Ask asks a target.
func (e *Envoy) Ask(ctx context.Context, t Target) error {
	status, body, err := e.get(ctx, t.Path, 4096)
	switch text := strings.TrimSpace(string(body)); {
	case err != nil:
		return err
	case status == http.StatusNotFound:
		return ErrBlind // the listener has changed meanwhile
	case status != http.StatusOK:
		return fmt.Errorf("%d: %.*s", status, maxReason, text)
	case text != "zone "+t.Zone:
		return fmt.Errorf("another one answers: %.*q", maxReason, text)
	}
	return nil
}
