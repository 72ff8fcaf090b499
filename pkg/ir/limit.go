package ir

import "time"

// TokenBucket lets Tokens pass in each Interval.
type TokenBucket struct {
	Tokens   uint32        `json:"tokens"`
	Interval time.Duration `json:"interval"`
}

// RequestLimit bounds the requests of one route, which counts by itself, and
// says how those above are answered.
type RequestLimit struct {
	TokenBucket
	Status  uint32    `json:"status,omitempty"` // 0: 429
	Headers HeaderOps `json:"headers,omitzero"` // of the answer; only Set and Add
}

// Client selects by the certificate and the server name of a connection. All
// set members must hold.
type Client struct {
	SpiffeID   *ValueMatch `json:"spiffeID,omitempty"` // Exact or Prefix; no name
	ServerName string      `json:"serverName,omitempty"`
}

// Fault disturbs a share of requests on purpose.
type Fault struct {
	Name   string  `json:"name"`             // of the filter
	Client *Client `json:"client,omitempty"` // nil: all
	Abort  *Abort  `json:"abort,omitempty"`
	Delay  *Delay  `json:"delay,omitempty"`
	Slow   *Slow   `json:"slow,omitempty"`
}

// Abort answers with Status.
type Abort struct {
	Status   uint32   `json:"status"`
	Fraction Fraction `json:"fraction"`
}

// Delay holds a request back.
type Delay struct {
	Duration time.Duration `json:"duration"`
	Fraction Fraction      `json:"fraction"`
}

// Slow limits the bandwidth of a response.
type Slow struct {
	KBps     uint64   `json:"kbps"` // 1024 bytes per second
	Fraction Fraction `json:"fraction"`
}
