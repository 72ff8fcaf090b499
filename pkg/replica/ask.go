package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/atoll-mesh/atoll/pkg/observe"
)

const (
	askPath     = "/ask"
	askTimeout  = 15 * time.Second // more than a proxy or a zone has
	dialTimeout = 2 * time.Second  // replicas are near; one that is gone holds nobody up
	stopTimeout = 2 * time.Second
	maxQuestion = 64 << 10
	maxAnswer   = 64 << 20 // a configuration with thousands of destinations
)

// serve answers the questions of others.
func (r *Replica) serve(ctx context.Context, a *authority) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+askPath, r.answer)
	s := &http.Server{
		Handler: mux, TLSConfig: a.server(),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute,
		ErrorLog: observe.ServerLog(r.cfg.Log),
	}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if s.Shutdown(end) != nil {
			s.Close()
		}
	})
	defer stop()
	err := s.ServeTLS(r.cfg.Listener, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("the server for other replicas (interCp.server.port): %w", err)
}

func (r *Replica) answer(w http.ResponseWriter, req *http.Request) {
	var q Question
	if err := json.NewDecoder(io.LimitReader(req.Body, maxQuestion)).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), askTimeout)
	defer cancel()
	b, err := r.cfg.Answer(ctx, q)
	switch {
	case errors.Is(err, ErrElsewhere):
		http.Error(w, err.Error(), http.StatusMisdirectedRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
	default:
		_, _ = w.Write(b)
	}
}

// Ask answers a question by itself, or has the replica answer that can. The error
// is text for whoever asks.
func (r *Replica) Ask(ctx context.Context, q Question) ([]byte, error) {
	b, here := r.cfg.Answer(ctx, q)
	if !errors.Is(here, ErrElsewhere) {
		return b, here
	}
	replies := r.askOthers(ctx, q)
	failed := here
	for got := range replies {
		switch {
		case got.err == nil:
			return got.body, nil
		case !errors.Is(got.err, ErrElsewhere):
			failed = got.err
		}
	}
	return nil, failed
}

// AskAll answers a question of which every replica knows a part, and has all
// others answer it too. Parts that are missing make it fail.
func (r *Replica) AskAll(ctx context.Context, q Question) ([][]byte, error) {
	b, err := r.cfg.Answer(ctx, q)
	if err != nil {
		return nil, err
	}
	parts, want := [][]byte{b}, 1+len(r.others())
	for got := range r.askOthers(ctx, q) {
		if got.err != nil {
			return nil, got.err
		}
		parts = append(parts, got.body)
	}
	if len(parts) < want {
		return nil, errors.New("this replica has only just started and does not reach the others yet")
	}
	return parts, nil
}

type reply struct {
	body []byte
	err  error
}

// askOthers asks all other replicas at once. The channel is closed after the last
// reply.
func (r *Replica) askOthers(ctx context.Context, q Question) <-chan reply {
	others := r.others()
	replies := make(chan reply, len(others))
	var a *authority
	select {
	case a = <-r.secret:
		r.secret <- a
	default:
		others = nil // this replica has only just started
	}
	if len(others) == 0 {
		close(replies)
		return replies
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: a.client(), DisableKeepAlives: true, ForceAttemptHTTP2: false,
		DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
	}}
	var wg sync.WaitGroup
	for _, e := range others {
		wg.Go(func() {
			body, err := ask(ctx, client, e, q)
			replies <- reply{body, err}
		})
	}
	go func() {
		wg.Wait()
		cancel()
		close(replies)
	}()
	return replies
}

// ask asks one replica.
func ask(ctx context.Context, client *http.Client, e entry, q Question) ([]byte, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+e.Address+askPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the replica %s does not answer: %w", e.ID, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer of the replica %s broke off: %w", e.ID, err)
	case len(b) > maxAnswer:
		return nil, fmt.Errorf("the answer of the replica %s is longer than %d bytes", e.ID, maxAnswer)
	case resp.StatusCode == http.StatusMisdirectedRequest:
		return nil, ErrElsewhere
	case resp.StatusCode != http.StatusOK:
		return nil, errors.New(string(bytes.TrimSpace(b)))
	}
	return b, nil
}
