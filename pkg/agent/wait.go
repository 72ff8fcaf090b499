package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// WaitConfig says what Wait looks at.
type WaitConfig struct {
	URL            string        // answers 200 when ready; on this machine only
	UnixSocket     string        // if set, where to send the request
	Timeout        time.Duration // of the whole
	CheckFrequency time.Duration
	RequestTimeout time.Duration
}

// Wait returns nil as soon as the proxy beside this process is ready.
func Wait(ctx context.Context, c WaitConfig) error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		return fmt.Errorf("--url %q: must be a URL such as http://localhost:9901/ready", c.URL)
	}
	if ip := net.ParseIP(u.Hostname()); c.UnixSocket == "" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--url %q: must be on this machine: localhost or a loopback address", c.URL)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if c.UnixSocket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.UnixSocket)
		}
	}
	client := &http.Client{Transport: transport, Timeout: c.RequestTimeout}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	tick := time.NewTicker(c.CheckFrequency) // an HTTP page has no event for its change
	defer tick.Stop()
	for {
		err := isReady(ctx, client, c.URL)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the proxy is not ready after %s: %w", c.Timeout, err)
		}
	}
}

func isReady(ctx context.Context, client *http.Client, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status + " " + string(body))
	}
	return nil
}
