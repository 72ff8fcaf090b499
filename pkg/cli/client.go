package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// client speaks the REST API of one control plane.
type client struct {
	base  string
	token string
	http  *http.Client
	kinds []kindInfo // as far as asked for
}

// kindInfo is what GET /_resources says of a kind.
type kindInfo struct {
	Name      string `json:"name"`
	Scope     string `json:"scope"`
	ReadOnly  bool   `json:"readOnly"`
	Path      string `json:"path"`
	Singular  string `json:"singularDisplayName"`
	ShortName string `json:"shortName"`
}

func (k kindInfo) itemPath(mesh, name string) string {
	if k.Scope == "Mesh" {
		return "/meshes/" + url.PathEscape(mesh) + "/" + k.Path + "/" + url.PathEscape(name)
	}
	return "/" + k.Path + "/" + url.PathEscape(name)
}

func (k kindInfo) listPath(mesh string) string {
	if k.Scope == "Mesh" && mesh != "" {
		return "/meshes/" + url.PathEscape(mesh) + "/" + k.Path
	}
	return "/" + k.Path
}

// problem is an error answer.
type problem struct {
	Status     int    `json:"status"`
	Title      string `json:"title"`
	Detail     string `json:"detail"`
	Parameters []struct {
		Field  string `json:"field"`
		Reason string `json:"reason"`
	} `json:"invalid_parameters"`
}

func (p *problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Title)
	if p.Detail != "" && p.Detail != p.Title {
		b.WriteString(": " + p.Detail)
	}
	for _, v := range p.Parameters {
		fmt.Fprintf(&b, "\n  %s: %s", v.Field, v.Reason)
	}
	return b.String()
}

// code is the exit code that fits the answer.
func (p *problem) code() int {
	switch {
	case p.Status == http.StatusNotFound:
		return exitNotFound
	case p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden:
		return exitDenied
	case p.Status >= 400 && p.Status < 500:
		return exitRejected
	}
	return exitFailed
}

// connect makes the client from flags, environment and context.
func (a *app) connect() (*client, error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return nil, err
	}
	cp := controlPlane{URL: "http://localhost:5681"}
	if ctx, ok := cfg.current(a.context); ok {
		if cp, ok = cfg.controlPlane(ctx.ControlPlane); !ok {
			return nil, failWith(exitUsage, "context %q names the control plane %q, which %s does not hold; see 'atollctl config control-planes list'", ctx.Name, ctx.ControlPlane, a.configPath())
		}
		if a.mesh == "" {
			a.mesh = ctx.Mesh
		}
	} else if a.context != "" {
		return nil, failWith(exitUsage, "no context %q in %s; see 'atollctl config control-planes list'", a.context, a.configPath())
	}
	if a.server != "" {
		cp = controlPlane{URL: a.server}
	}
	if a.mesh == "" {
		a.mesh = "default"
	}
	if a.token != "" {
		cp.Token = a.token
	}
	if a.tokenFile != "" {
		cp.TokenFile = a.tokenFile
	}
	if a.caFile != "" {
		cp.CACertFile = a.caFile
	}
	cp.SkipVerify = cp.SkipVerify || a.skipVerify
	return newClient(cp, a)
}

func newClient(cp controlPlane, a *app) (*client, error) {
	u, err := url.Parse(cp.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, failWith(exitUsage, "%q is no URL of a control plane; it looks like http://localhost:5681", cp.URL)
	}
	token := cp.Token
	if cp.TokenFile != "" {
		b, err := os.ReadFile(cp.TokenFile)
		if err != nil {
			return nil, failWith(exitUsage, "token file: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	// The person at the keyboard asked for it, by flag or in the context.
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cp.SkipVerify}
	if cp.CACertFile != "" {
		pem, err := os.ReadFile(cp.CACertFile)
		if err != nil {
			return nil, failWith(exitUsage, "CA file: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, failWith(exitUsage, "CA file %s holds no PEM certificate", cp.CACertFile)
		}
	}
	return &client{
		base:  strings.TrimSuffix(cp.URL, "/"),
		token: token,
		http:  &http.Client{Transport: t, Timeout: a.timeout},
	}, nil
}

// do makes one call. Answers other than 2xx are a *problem with an exit code.
func (c *client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	target := path
	if !strings.HasPrefix(path, "http") { // "next" of a list is absolute
		target = c.base + path
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, text/plain")
	req.Header.Set("User-Agent", "atollctl")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, failWith(exitUnreachable, "no answer from the control plane: %w\nIs it running? Name another one with --server URL", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, failWith(exitUnreachable, "the answer of %s broke off: %w", c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return answer, nil
	}
	p := &problem{}
	if json.Unmarshal(answer, p) != nil || p.Title == "" {
		p.Title = fmt.Sprintf("%s %s answered %s", method, path, resp.Status)
		p.Detail = strings.TrimSpace(string(answer))
	}
	p.Status = resp.StatusCode
	hint := ""
	switch p.Status {
	case http.StatusUnauthorized:
		hint = "\nThe token is not accepted here. Make one with 'atollctl generate user-token' beside the control plane"
	case http.StatusForbidden:
		hint = "\nGive a token that may do this with --token or --token-file"
	}
	if hint != "" {
		return nil, &exitError{p.code(), fmt.Errorf("%w%s", p, hint)}
	}
	return nil, &exitError{p.code(), p}
}

func (c *client) get(ctx context.Context, path string, into any) error {
	b, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s answered something that is not the API of a control plane: %w", c.base+path, err)
	}
	return nil
}

// kindByName finds a kind by type, path segment, singular or short name.
func (c *client) kindByName(ctx context.Context, name string) (kindInfo, error) {
	if c.kinds == nil {
		var answer struct{ Resources []kindInfo }
		if err := c.get(ctx, "/_resources", &answer); err != nil {
			return kindInfo{}, err
		}
		c.kinds = answer.Resources
	}
	want := strings.ToLower(name)
	for _, k := range c.kinds {
		plural, typeName := k.Path, strings.ToLower(k.Name)
		if want == plural || want == typeName || want == k.ShortName || want == strings.ReplaceAll(strings.ToLower(k.Singular), " ", "-") ||
			strings.ReplaceAll(want, "-", "") == typeName || strings.ReplaceAll(want, "-", "") == plural {
			return k, nil
		}
	}
	return kindInfo{}, failWith(exitUsage, "unknown kind %q; 'atollctl get --help' lists how to name one, %s/_resources lists all", name, c.base)
}

// list reads all pages of a list, or one page when size is given.
func (c *client) list(ctx context.Context, path string, query url.Values) (items []json.RawMessage, total int, err error) {
	onePage := query.Get("size") != ""
	if !onePage {
		query.Set("size", "1000")
	}
	next := path + "?" + query.Encode()
	for next != "" {
		var page struct {
			Total int
			Items []json.RawMessage
			Next  *string
		}
		if err := c.get(ctx, next, &page); err != nil {
			return nil, 0, err
		}
		items, total, next = append(items, page.Items...), page.Total, ""
		if page.Next != nil && !onePage {
			u, err := url.Parse(*page.Next)
			if err != nil {
				return nil, 0, err
			}
			next = path + "?" + u.RawQuery // the same server, by the way we reach it
		}
	}
	return items, total, nil
}

// isNotFound tells whether err is a 404 of the server.
func isNotFound(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}
