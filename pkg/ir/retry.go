package ir

import "time"

// Retry says which requests are tried again.
type Retry struct {
	On []string `json:"on"` // in Envoy's words
	// Unsafe is On for requests that must not be processed twice, by their method;
	// nil: there is no difference.
	Unsafe        []string       `json:"unsafe,omitempty"`
	Times         *uint32        `json:"times,omitempty"` // nil: once
	PerTryTimeout *time.Duration `json:"perTryTimeout,omitempty"`
	// Base and Max bound the time between tries; both or none.
	Base *time.Duration `json:"baseInterval,omitempty"`
	Max  *time.Duration `json:"maxInterval,omitempty"`
	// Reset lists headers of responses that say when to try again, at most
	// ResetMax later.
	Reset    []ResetHeader  `json:"reset,omitempty"`
	ResetMax *time.Duration `json:"resetMaxInterval,omitempty"`
	Statuses []uint32       `json:"statuses,omitempty"`
	// RequestHeaders: only requests with one of them are tried again.
	RequestHeaders []ValueMatch `json:"requestHeaders,omitempty"`
	// ResponseHeaders: responses with one of them are tried again.
	ResponseHeaders []ValueMatch `json:"responseHeaders,omitempty"`
	// PreviousHosts leaves out endpoints that were tried, OmitHosts those that
	// have all labels of an element, PreviousPriorities the priorities that were
	// tried, counted anew after so many tries.
	PreviousHosts      bool                `json:"previousHosts,omitempty"`
	OmitHosts          []map[string]string `json:"omitHosts,omitempty"`
	PreviousPriorities uint32              `json:"previousPriorities,omitempty"`
	// HostAttempts bounds the search for an endpoint that is not left out.
	HostAttempts *int64 `json:"hostAttempts,omitempty"`
}

// ResetHeader is a header with seconds, or with the seconds since 1970.
type ResetHeader struct {
	Name string `json:"name"`
	Unix bool   `json:"unix,omitempty"`
}
