package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The control plane of the zone may ask about Envoy: what it runs with, its
// statistics and its clusters. It asks on a connection that the agent makes, so
// that Envoy's administration need not listen on any network.

// questionProtocol is what the connection is upgraded to: HTTP/1.1 on which the
// control plane is the client.
const questionProtocol = "atoll-questions"

// askable are the paths of Envoy's administration that are answered, by GET
// only: none of them changes anything.
var askable = map[string]bool{"/config_dump": true, "/stats": true, "/clusters": true}

// configurationPath is asked for, with POST, when there is something new in what
// this agent is told through Envoy. tells=true promises to do so each time.
const configurationPath = "/configuration"

const (
	maxAnswer    = 64 << 20
	reconnectMin = time.Second
	reconnectMax = time.Minute // a control plane may be too old to ask
)

// answerQuestions keeps a connection for questions until ctx ends.
func (c *Config) answerQuestions(ctx context.Context, a *admin, r *bootstrapRequest, ca []byte) {
	said, pause := "", reconnectMin
	for ctx.Err() == nil {
		served, err := c.answerOnce(ctx, a, r, ca)
		if served {
			said, pause = "", reconnectMin
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			c.Log.Debug("the control plane cannot ask about this proxy now", "reason", said)
		}
		t := time.NewTimer(pause) // the other side is away or refuses: nothing to wait for
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		pause = min(2*pause, reconnectMax)
	}
}

// answerOnce serves one connection; served tells whether there was one.
func (c *Config) answerOnce(ctx context.Context, a *admin, r *bootstrapRequest, ca []byte) (served bool, err error) {
	client, err := c.client(ca)
	if err != nil {
		return false, err
	}
	client.Timeout = 0 // the connection stays
	defer client.CloseIdleConnections()
	token, err := c.token()
	if err != nil {
		return false, err
	}
	address := strings.TrimSuffix(c.ControlPlane.Address, "/") + "/questions?" +
		url.Values{"mesh": {r.Mesh}, "name": {r.Name}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", questionProtocol)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return false, fmt.Errorf("the control plane answers %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	conn, ok := resp.Body.(io.ReadWriter)
	if !ok {
		return false, errors.New("the connection cannot be used in both directions")
	}
	stop := context.AfterFunc(ctx, func() { resp.Body.Close() })
	defer stop()
	defer a.push(false)
	in := bufio.NewReader(conn)
	for {
		question, err := http.ReadRequest(in)
		if err != nil {
			return true, fmt.Errorf("the connection ended: %w", err)
		}
		if err := a.answer(ctx, question).Write(conn); err != nil {
			return true, err
		}
	}
}

// answer asks Envoy what the control plane asks, if that may be asked, or does the
// one thing that it may ask for.
func (a *admin) answer(ctx context.Context, question *http.Request) *http.Response {
	if question.Method == http.MethodPost && question.URL.Path == hangUpPath {
		return a.answerHangUp(ctx, question)
	}
	if question.Method == http.MethodPost && question.URL.Path == configurationPath {
		a.push(question.URL.Query().Get("tells") == "true")
		return textResponse(http.StatusOK, "")
	}
	if question.Method != http.MethodGet || !askable[question.URL.Path] {
		return textResponse(http.StatusForbidden, "only GET of /config_dump, /stats and /clusters is answered")
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy"+question.URL.RequestURI(), nil)
	if err != nil {
		return textResponse(http.StatusBadRequest, err.Error())
	}
	client := *a.client
	client.Timeout = 0 // ctx has one that fits a large answer
	resp, err := client.Do(req)
	if err != nil {
		return textResponse(http.StatusBadGateway, "Envoy does not answer: "+err.Error())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return textResponse(http.StatusBadGateway, "Envoy's answer broke off: "+err.Error())
	}
	return response(resp.StatusCode, body)
}

// answerTimeout is shorter than the control plane waits, so that it hears why.
const answerTimeout = 8 * time.Second

func textResponse(status int, text string) *http.Response { return response(status, []byte(text)) }

func response(status int, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}
