package kind

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Webhook is somebody who is told of notices by HTTP.
const Webhook resource.Type = "Webhook"

// WebhookSpec is a Webhook's content.
type WebhookSpec struct {
	// URL takes POSTs of CloudEvents 1.0 in JSON.
	URL string `json:"url" schema:"minLen=1"`
	// Secret names the GlobalSecret with which requests are signed.
	Secret *WebhookSecret `json:"secret,omitempty"`
	// Events that are told; empty: all.
	Events []string `json:"events,omitempty"`
	// Meshes and Zones limit it to notices about these; empty: all. What is about
	// no mesh in particular is told whatever Meshes are.
	Meshes []string `json:"meshes,omitempty"`
	Zones  []string `json:"zones,omitempty"`
	// CA is PEM of the authorities that may sign the receiver's certificate; empty:
	// those of the system.
	CA string `json:"ca,omitempty"`
	// Timeout of one attempt; default 10s.
	Timeout string `json:"timeout,omitempty"`
	// Attempts until a notice becomes a dead letter; default 15, which is about
	// half an hour.
	Attempts int32 `json:"attempts,omitempty" schema:"min=0,max=1000"`
	// Disabled keeps it from being told, without forgetting where it was.
	Disabled bool `json:"disabled,omitempty"`
}

// WebhookSecret names a GlobalSecret.
type WebhookSecret struct {
	Name string `json:"name" schema:"minLen=1"`
}

// WebhookStatus is how far the deliveries are.
type WebhookStatus struct {
	// Cursor is the last notice that was delivered, given up or not for this hook.
	Cursor string `json:"cursor"`
	// Delivered and Dead count since the hook was made.
	Delivered int64 `json:"delivered"`
	Dead      int64 `json:"dead"`
	// Missed counts notices that were forgotten before they could be delivered.
	Missed      int64        `json:"missed,omitempty"`
	Failing     *Failing     `json:"failing,omitempty"` // the notice after the cursor cannot be delivered
	DeadLetters []DeadLetter `json:"deadLetters,omitempty"`
}

// Failing is a delivery that is tried again and again.
type Failing struct {
	Notice   string    `json:"notice"`
	Attempts int32     `json:"attempts"`
	Since    time.Time `json:"since"`
	Next     time.Time `json:"next"`
	Error    string    `json:"error"`
}

// DeadLetter is a notice that was given up.
type DeadLetter struct {
	Notice   string     `json:"notice"`
	Attempts int32      `json:"attempts"`
	Time     time.Time  `json:"time"` // when it was given up
	Error    string     `json:"error"`
	Content  NoticeSpec `json:"content"`
}

// DefaultWebhookAttempts and DefaultWebhookTimeout are those of hooks that say
// nothing.
const (
	DefaultWebhookAttempts = 15
	DefaultWebhookTimeout  = 10 * time.Second
)

// Limits are the timeout and attempts of a hook.
func (w *WebhookSpec) Limits() (timeout time.Duration, attempts int32) {
	timeout, attempts = DefaultWebhookTimeout, DefaultWebhookAttempts
	if d, err := time.ParseDuration(w.Timeout); err == nil && d > 0 {
		timeout = d
	}
	if w.Attempts > 0 {
		attempts = w.Attempts
	}
	return timeout, attempts
}

// Wants tells whether a notice is for this hook.
func (w *WebhookSpec) Wants(n *NoticeSpec) bool {
	return (len(w.Events) == 0 || slices.Contains(w.Events, n.Event)) &&
		(len(w.Meshes) == 0 || n.Mesh == "" || slices.Contains(w.Meshes, n.Mesh)) &&
		(len(w.Zones) == 0 || slices.Contains(w.Zones, n.Zone))
}

func webhookKind() *resource.Kind {
	return resource.Define[WebhookSpec, WebhookStatus](resource.Kind{
		Names: resource.Names{
			Type: Webhook, Plural: "webhooks", Single: "webhook",
			Display: "Webhook", Displays: "Webhooks",
		},
		Scope:       resource.ScopeGlobal,
		AdminOnly:   true, // many receivers are known by a URL that is a secret
		LocalStatus: true,
		Native:      true,
		Validate:    validateWebhook,
		Warnings: func(o *resource.Object) []string {
			spec := resource.SpecOf[WebhookSpec](o)
			var out []string
			if strings.HasPrefix(spec.URL, "http://") {
				out = append(out, "spec.url: anybody on the way can read and change what is sent; use https")
			}
			if spec.Secret == nil {
				out = append(out, "spec.secret: requests are not signed, and the receiver cannot tell who sent them; name a GlobalSecret")
			}
			return out
		},
	})
}

func validateWebhook(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[WebhookSpec](o)
	u, err := url.Parse(spec.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		errs.Add("spec.url", "must be a URL such as https://example.com/hook")
	case u.User != nil:
		errs.Add("spec.url", "must not hold a user or password: anybody who reads resources would see it")
	}
	for i, e := range spec.Events {
		if !slices.Contains(Events, e) {
			errs.Add(fmt.Sprintf("spec.events[%d]", i), "there is no event %q; known are %s", e, strings.Join(Events, ", "))
		}
	}
	if spec.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(spec.CA)) {
		errs.Add("spec.ca", "holds no PEM certificate")
	}
	if spec.Timeout != "" {
		if d, err := time.ParseDuration(spec.Timeout); err != nil || d <= 0 || d > time.Minute {
			errs.Add("spec.timeout", "must be a duration above 0s and up to 1m, got %q", spec.Timeout)
		}
	}
	return errs
}
