// Package client calls the REST API of a control plane, with a method for each
// operation and a type for each document. All but this file is made from the
// description of the API by tools/genclient.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Sender makes one call and returns the content of its answer. Path begins with a
// slash and may have a query. Answers other than 2xx are errors.
type Sender func(ctx context.Context, method, path string, header http.Header, body []byte) ([]byte, error)

// Client calls the API by a Sender, which knows where it is and who calls.
type Client struct{ Send Sender }

// Option is a parameter of a call. Operations ignore those that they do not have.
type Option func(query url.Values, header http.Header)

// WithQuery sets parameters that are known by name only, such as those that the
// address of a list's next page has.
func WithQuery(values url.Values) Option {
	return func(query url.Values, _ http.Header) {
		for name, list := range values {
			query[name] = list
		}
	}
}

// WithHeader sets headers.
func WithHeader(values http.Header) Option {
	return func(_ url.Values, header http.Header) {
		for name, list := range values {
			header[name] = list
		}
	}
}

// List is one page of a list whose items are left as they came.
type List struct {
	Total int64             `json:"total"`
	Items []json.RawMessage `json:"items"`
	// Next is the address of the next page; nil: there is none.
	Next *string `json:"next"`
}

// call makes a call and decodes its answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any, options []Option) (T, error) {
	var answer T
	query, header := url.Values{}, http.Header{}
	for _, o := range options {
		o(query, header)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return answer, err
		}
	}
	b, err := c.Send(ctx, method, path, header, content)
	if err != nil {
		return answer, err
	}
	switch as := any(&answer).(type) {
	case *string:
		*as = string(b)
		return answer, nil
	case *json.RawMessage: // whatever it is
		*as = b
		return answer, nil
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return answer, fmt.Errorf("%s %s answered something that is not the API of a control plane: %w", method, path, err)
	}
	return answer, nil
}

// fill puts arguments into a path.
func fill(path string, arguments ...string) string {
	for _, a := range arguments {
		begin := strings.IndexByte(path, '{')
		end := begin + strings.IndexByte(path[begin:], '}')
		path = path[:begin] + url.PathEscape(a) + path[end+1:]
	}
	return path
}
