// Package webhook tells others of notices by HTTP: each hook in order, at least
// once, over and over until it is taken or given up. How far a hook is, is in its
// status, so that whoever leads next goes on there.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/observe"
)

// SignatureHeader carries "t=<seconds since 1970>,v1=<hex>": v1 is the
// HMAC-SHA256, with the hook's secret, of the seconds, a dot and the body.
const SignatureHeader = "Atoll-Signature"

// Sign returns the signature of a body at a time.
func Sign(secret []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(t + "."))
	m.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(m.Sum(nil))
}

// contentType is that of CloudEvents in structured mode.
const contentType = "application/cloudevents+json; charset=utf-8"

// maxAnswer is how much of an answer is read, so that the connection can be used
// again.
const maxAnswer = 64 << 10

// refusal is an answer after which it makes no sense to try again.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// client makes requests for one hook.
func client(spec *kind.WebhookSpec, allow []netip.Prefix) *http.Client {
	timeout, _ := spec.Limits()
	dialer := &net.Dialer{Timeout: timeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return mayCall(address, allow)
	}}
	t := &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: timeout, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if spec.CA != "" {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(spec.CA))
	}
	return &http.Client{
		Transport: t, Timeout: timeout,
		// Where to is for who wrote the hook to say, not for the receiver.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// mayCall refuses addresses at which the machine of the control plane, or what
// surrounds it, answers things that are not for those who write hooks. It is asked
// about the address itself, after names were resolved.
func mayCall(address string, allow []netip.Prefix) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%q is no address", address)
	}
	ip := at.Addr().Unmap().WithZone("")
	for _, p := range allow {
		if p.Contains(ip) {
			return nil
		}
	}
	if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsInterfaceLocalMulticast() {
		return fmt.Errorf("%s is not called: it is of the control plane's own machine or network; who operates the control plane can allow it with webhooks.allowedAddresses", ip)
	}
	return nil
}

// post delivers one event once.
func post(ctx context.Context, c *http.Client, url string, secret, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "atoll/"+observe.ReadBuild().Version)
	if secret != nil {
		req.Header.Set(SignatureHeader, Sign(secret, time.Now(), body))
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // what it says does not matter
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode == http.StatusGone:
		return &refusal{errors.New("the receiver answered 410 Gone: it wants nothing any more")}
	case resp.StatusCode/100 == 3:
		return fmt.Errorf("the receiver answered %s: redirects are not followed, set the final URL", resp.Status)
	}
	return fmt.Errorf("the receiver answered %s", resp.Status)
}
