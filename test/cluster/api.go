package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// API is the REST interface of a control plane, called from localhost.
type API struct {
	URL string
}

var client = &http.Client{Timeout: 10 * time.Second}

// Do calls the API. body is sent as JSON, or as YAML when it is text, unless it
// is nil. out, unless nil, gets the answer: decoded, or as text if it is a
// *string. Any answer but success is an error with what it says.
func (a *API) Do(ctx context.Context, method, path string, body, out any) error {
	var r io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case string:
		r, kind = strings.NewReader(b), "application/yaml"
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return err
		}
		r, kind = bytes.NewReader(j), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, method, a.URL+path, r)
	if err != nil {
		return err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return &StatusError{method + " " + path, resp.StatusCode, strings.TrimSpace(string(text))}
	}
	switch o := out.(type) {
	case nil:
	case *string:
		*o = strings.TrimSpace(string(text))
	default:
		return json.Unmarshal(text, out)
	}
	return nil
}

// Put creates or replaces a resource given as YAML or JSON.
func (a *API) Put(ctx context.Context, path, body string) error {
	return a.Do(ctx, http.MethodPut, path, body, nil)
}

// StatusError is an answer other than success.
type StatusError struct {
	Call   string
	Status int
	Text   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%s: %d %s", e.Call, e.Status, e.Text) }

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, resp.Status, b)
	}
	return err
}

// syncState is one direction of a zone's sync.
type syncState struct {
	GlobalRevision  number `json:"globalRevision"`
	AppliedRevision number `json:"appliedRevision"`
}

// number is a 64-bit integer, which JSON of protobuf writes as a string.
type number struct{ n int64 }

// UnmarshalJSON reads a number with or without quotes.
func (n *number) UnmarshalJSON(b []byte) (err error) {
	n.n, err = strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	return err
}
