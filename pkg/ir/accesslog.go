package ir

import "encoding/json"

// AccessLog writes one entry for each request or connection. Values may hold
// operators of Envoy (%START_TIME%).
type AccessLog struct {
	// Path of a file; empty when OTLP is set.
	Path string `json:"path,omitempty"`
	// Text is the line, with its end; else JSON is the object that is written.
	Text      string          `json:"text,omitempty"`
	JSON      json.RawMessage `json:"json,omitempty"`
	OmitEmpty bool            `json:"omitEmpty,omitempty"` // leave out what has no value
	OTLP      *OTLPLog        `json:"otlp,omitempty"`
	// Client whose entries are written; nil: of all.
	Client *Client `json:"client,omitempty"`
	// Route whose requests are written, by name; or all but those of NotRoutes.
	Route     string   `json:"route,omitempty"`
	NotRoutes []string `json:"notRoutes,omitempty"`
}

// OTLPLog sends log records to a collector.
type OTLPLog struct {
	Cluster    string            `json:"cluster"`
	URI        string            `json:"uri,omitempty"`  // for OTLP over HTTP; empty: gRPC
	Body       json.RawMessage   `json:"body,omitempty"` // a value of OTLP, or any JSON
	Attributes map[string]string `json:"attributes,omitempty"`
	Resource   map[string]string `json:"resource,omitempty"`
}
