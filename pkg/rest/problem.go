package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// problem is an answer that is not what was asked for.
type problem struct {
	Status int
	Title  string
	Detail string
	Fields resource.FieldErrors
}

// Error is for logs.
func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

// statusClientGone is what logs and metrics have for callers that hung up.
const statusClientGone = 499

// Titles of operations, which tools show to people.
const (
	titleGet    = "Could not retrieve a resource"
	titleList   = "Could not retrieve resources"
	titlePut    = "Could not process a resource"
	titleCreate = "Failed to create a resource"
	titleUpdate = "Failed to update a resource"
	titleDelete = "Could not delete a resource"
	titleFind   = "Failed to find a resource"
	titleMesh   = "Failed to retrieve Mesh"
)

func notFound(title string) *problem {
	return &problem{http.StatusNotFound, title, "Not found", nil}
}

func busy(detail string) *problem {
	return &problem{http.StatusServiceUnavailable, "Service unavailable", detail, nil}
}

func badRequest(format string, args ...any) *problem {
	return &problem{http.StatusBadRequest, "Bad Request", fmt.Sprintf(format, args...), nil}
}

// invalid reports violations, or nil when there are none.
func invalid(title string, errs resource.FieldErrors) error {
	if len(errs) == 0 {
		return nil
	}
	errs.Sort()
	return &problem{http.StatusBadRequest, title, "Resource is not valid", errs}
}

// titled gives errors of a lower layer the title of the operation.
func titled(title string, err error) error {
	var p *problem
	if err == nil || errors.As(err, &p) {
		return err
	}
	return &operationError{title, err}
}

type operationError struct {
	title string
	err   error
}

func (e *operationError) Error() string { return e.title + ": " + e.err.Error() }
func (e *operationError) Unwrap() error { return e.err }

// describe turns any error into what the caller may know of it.
func describe(err error) *problem {
	var (
		p       *problem
		op      *operationError
		fields  resource.FieldErrors
		denied  *auth.DeniedError
		tooBig  *http.MaxBytesError
		title   = "Internal Server Error"
		status  = http.StatusInternalServerError
		because = err.Error()
	)
	if errors.As(err, &p) {
		return p
	}
	if errors.As(err, &op) {
		title, because = op.title, op.err.Error()
	}
	switch {
	case errors.As(err, &fields):
		return &problem{http.StatusBadRequest, title, "Resource is not valid", fields}
	case errors.As(err, &denied):
		status, title, because = http.StatusForbidden, "Access Denied", denied.Error()
	case errors.As(err, &tooBig):
		status, title = http.StatusRequestEntityTooLarge, "Request Entity Too Large"
		because = fmt.Sprintf("the body is larger than the %d bytes that are accepted", tooBig.Limit)
	case errors.Is(err, store.ErrConflict):
		status, title = http.StatusConflict, "Conflict"
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed):
		status, title = http.StatusServiceUnavailable, "Service unavailable"
	case errors.Is(err, auth.ErrNoSigningKey):
		status, title = http.StatusNotFound, "Signing Key not found"
	case errors.Is(err, auth.ErrIssuerDisabled):
		status = http.StatusBadRequest
	case errors.Is(err, context.Canceled):
		status = statusClientGone
	case errors.Is(err, context.DeadlineExceeded):
		status, title = http.StatusServiceUnavailable, "Service unavailable"
	default:
		because = "Internal Server Error" // the cause is in the log
	}
	return &problem{status, title, because, nil}
}

type parameter struct {
	Field   string `json:"field"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

type problemBody struct {
	Type              string      `json:"type"`
	Status            int         `json:"status"`
	Title             string      `json:"title"`
	Detail            string      `json:"detail"`
	InvalidParameters []parameter `json:"invalid_parameters,omitempty"`
	Unreadable        []parameter `json:"unreadable,omitempty"` // values that Detail is about
	Details           string      `json:"details"`              // as Detail, for old clients
	Causes            []parameter `json:"causes,omitempty"`     // as InvalidParameters, for old clients
}

// fail answers with a problem. Every error of the API passes here.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := describe(err)
	// That a revision did not come while somebody waited for it is no failure.
	if p.Status >= 500 && err != error(p) {
		a.Log.Error("a request failed", "method", r.Method, "path", r.URL.Path, "status", p.Status, "error", err)
	}
	body := problemBody{Type: "/std-errors", Status: p.Status, Title: p.Title, Detail: p.Detail, Details: p.Detail}
	for _, f := range p.Fields {
		body.InvalidParameters = append(body.InvalidParameters, parameter{Field: f.Field, Reason: f.Reason})
		body.Causes = append(body.Causes, parameter{Field: f.Field, Message: f.Reason})
	}
	var unreadable *resource.UndecodableError
	if errors.As(err, &unreadable) {
		for _, f := range unreadable.FieldErrors {
			body.Unreadable = append(body.Unreadable, parameter{Field: f.Field, Reason: f.Reason})
		}
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, p.Status, body)
}

// writeJSON answers with an indented document.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	_ = e.Encode(v) // what remains to go wrong is a caller who left
}
