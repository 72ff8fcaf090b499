package cli

import (
	"context"
	"encoding/json"
	"strings"

	api "github.com/atoll-mesh/atoll/api/client"
)

// description is what the server says about its API, as far as it is used here.
type description struct {
	Paths map[string]map[string]any `json:"paths"`

	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

// schema is a JSON Schema as the server publishes it.
type schema struct {
	Ref         string             `json:"$ref"`
	Type        any                `json:"type"`
	Const       any                `json:"const"`
	Format      string             `json:"format"`
	Description string             `json:"description"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	Items       *schema            `json:"items"`
	Additional  *schema            `json:"additionalProperties"`
	Enum        []any              `json:"enum"`
	Default     any                `json:"default"`
	Minimum     *float64           `json:"minimum"`
	Maximum     *float64           `json:"maximum"`
	MinItems    *int               `json:"minItems"`
	MaxItems    *int               `json:"maxItems"`
	MinLength   *int               `json:"minLength"`
	MaxLength   *int               `json:"maxLength"`
	Pattern     string             `json:"pattern"`
	ReadOnly    bool               `json:"readOnly"`
}

func (c *client) describe(ctx context.Context) (*description, error) {
	d := &description{}
	return d, read(c, d, func(x *api.Client) (json.RawMessage, error) { return x.GetApiOpenapi(ctx) })
}

// takes tells whether the server knows a query parameter of an operation. One
// that it does not know would be ignored, which for some is dangerous.
func (d *description) takes(method, path, parameter string) bool {
	op, _ := d.Paths[path][strings.ToLower(method)].(map[string]any)
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		if p, ok := p.(map[string]any); ok && p["name"] == parameter {
			return true
		}
	}
	return false
}

// mustDryRun fails when the server would not take a dry run for one: it would
// really write.
func (c *client) mustDryRun(ctx context.Context) error {
	d, err := c.describe(ctx)
	if err != nil {
		return err
	}
	if !d.takes("PUT", "/meshes/{name}", "dryRun") {
		return failWith(exitFailed, "%s cannot try out writes; compare with 'atollctl diff', or use --dry-run=client", c.base)
	}
	return nil
}
