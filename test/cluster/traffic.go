package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Split is how answers were shared.
type Split struct {
	Answers map[string]int // body to count
	Failed  int
	Last    error // of the failed ones
}

// Total is the number of requests.
func (s *Split) Total() int {
	n := s.Failed
	for _, k := range s.Answers {
		n += k
	}
	return n
}

// Share is the part of all requests that one body answered, in percent.
func (s *Split) Share(body string) float64 {
	if s.Total() == 0 {
		return 0
	}
	return 100 * float64(s.Answers[body]) / float64(s.Total())
}

func newClient(connections int) *http.Client {
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections},
	}
}

func ask(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s", resp.Status, b)
	}
	return string(b), nil
}

// Measure sends n requests and counts the answers.
func Measure(ctx context.Context, url string, n int) *Split {
	const workers = 8
	c := newClient(workers)
	defer c.CloseIdleConnections()
	s := &Split{Answers: map[string]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	for range workers {
		wg.Go(func() {
			for range work {
				body, err := ask(ctx, c, url)
				mu.Lock()
				if err != nil {
					s.Failed++
					s.Last = err
				} else {
					s.Answers[body]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return s
}

// Traffic is a steady flow of requests.
type Traffic struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	sent     int
	failures []Failure
}

// Failure is a request that got no good answer.
type Failure struct {
	URL  string
	Time time.Time // when it was sent
	Err  error
}

// Flow sends requests to each URL, evenly spaced, until it is stopped.
func Flow(every time.Duration, urls ...string) *Traffic {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Traffic{cancel: cancel, done: make(chan struct{})}
	var wg sync.WaitGroup
	for _, url := range urls {
		wg.Go(func() { t.flow(ctx, every, url) })
	}
	go func() {
		wg.Wait()
		close(t.done)
	}()
	return t
}

func (t *Traffic) flow(ctx context.Context, every time.Duration, url string) {
	c := newClient(16)
	defer c.CloseIdleConnections()
	tick := time.NewTicker(every) // the rate
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			begun := time.Now()
			_, err := ask(context.WithoutCancel(ctx), c, url)
			t.mu.Lock()
			defer t.mu.Unlock()
			t.sent++
			if err != nil {
				t.failures = append(t.failures, Failure{url, begun, err})
			}
		})
	}
}

// Stop ends the flow, waits for the last answers, and returns what happened.
func (t *Traffic) Stop() (sent int, failures []Failure) {
	t.cancel()
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent, t.failures
}
