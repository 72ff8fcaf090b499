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
	"maps"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/atoll-mesh/atoll/api/client"
	"github.com/atoll-mesh/atoll/pkg/observe"
)

// client speaks the REST API of one control plane.
type client struct {
	base    string
	token   string
	headers map[string]string
	http    *http.Client
	logged  func(*http.Response, time.Duration) // told of every answer
	kinds   []kindInfo                          // as far as asked for
}

// kindInfo is what GET /_resources says of a kind.
type kindInfo struct {
	Name                string
	Scope               string
	ReadOnly            bool
	Path                string
	Display             string
	Singular            string
	Aliases             []string
	ShortName           string
	IncludeInFederation bool
	AdminOnly           bool
	Policy              *policyInfo
}

type policyInfo struct{ IsTargetRef bool }

// named tells whether people may mean the kind by a word, in lower case.
func (k kindInfo) named(word string) bool {
	plain := strings.ReplaceAll(word, "-", "")
	for _, name := range append([]string{k.Path, k.Name, k.Singular, k.ShortName, strings.ReplaceAll(k.Display, " ", "-")}, k.Aliases...) {
		if name = strings.ToLower(name); name != "" && (word == name || plain == strings.ReplaceAll(name, "-", "")) {
			return true
		}
	}
	return false
}

// problem is an error answer.
type problem struct {
	Status     int         `json:"status"`
	Title      string      `json:"title"`
	Detail     string      `json:"detail"`
	Parameters []violation `json:"invalid_parameters"`
	Unreadable []violation `json:"unreadable"` // values that could not be decoded
}

type violation struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
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

// fromEnvironment fills in flags that were not given. The environment is not the
// flags' default, because help prints defaults and one of them is a token.
func (a *app) fromEnvironment() {
	if a.server == "" {
		a.server = os.Getenv("ATOLL_SERVER")
	}
	if a.token == "" {
		a.token = os.Getenv("ATOLL_TOKEN")
	}
}

// connect makes the client from flags, environment and context.
func (a *app) connect() (*client, error) {
	if a.timeout <= 0 {
		return nil, failWith(exitUsage, "--api-timeout must be greater than 0, got %s", a.timeout)
	}
	a.fromEnvironment()
	if !slices.Contains([]string{"off", "info", "debug"}, a.logLevel) {
		return nil, failWith(exitUsage, "unknown --log-level %q; choose off, info or debug", a.logLevel)
	}
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
	if a.clientCert != "" {
		cp.ClientCertFile, cp.ClientKeyFile = a.clientCert, a.clientKey
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
	if cp.ClientCertFile != "" || cp.ClientKeyFile != "" {
		pair, err := tls.LoadX509KeyPair(cp.ClientCertFile, cp.ClientKeyFile)
		if err != nil {
			return nil, failWith(exitUsage, "client certificate: %w", err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return &client{
		base:    strings.TrimSuffix(cp.URL, "/"),
		token:   token,
		headers: cp.Headers,
		logged:  a.logged,
		http:    &http.Client{Transport: t, Timeout: a.timeout},
	}, nil
}

// answer is what came back with status 2xx.
type answer struct {
	body     []byte
	header   http.Header
	revision uint64 // of the store, as of this answer; 0: not said
}

// call makes one call. Answers other than 2xx are a *problem with an exit code.
func (c *client) call(ctx context.Context, method, path string, body []byte, header http.Header) (answer, error) {
	resp, err := c.send(ctx, method, path, body, header)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, failWith(exitUnreachable, "the answer of %s broke off: %w", c.base, err)
	}
	if resp.StatusCode/100 != 2 {
		return answer{}, problemOf(resp, method, path, content)
	}
	revision, _ := strconv.ParseUint(resp.Header.Get(revisionHeader), 10, 64)
	return answer{content, resp.Header, revision}, nil
}

// Headers that carry revisions of the store.
const (
	revisionHeader    = "Atoll-Revision"
	minRevisionHeader = "Atoll-Min-Revision"
)

func (c *client) send(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, text/plain")
	req.Header.Set("User-Agent", fmt.Sprintf("atollctl/%s (%s; %s)", observe.ReadBuild().Version, runtime.GOOS, runtime.GOARCH))
	for name, value := range c.headers {
		req.Header.Set(name, value)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	start := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err() // the person at the keyboard had enough
		}
		return nil, failWith(exitUnreachable, "no answer from the control plane: %w\nIs it running? Name another one with --server URL", err)
	}
	c.logged(resp, time.Since(start))
	return resp, nil
}

// logged tells of a call as --log-level asks for.
func (a *app) logged(resp *http.Response, took time.Duration) {
	if a.logLevel == "off" {
		return
	}
	fmt.Fprintf(a.err, "%s %s: %s in %s\n", resp.Request.Method, resp.Request.URL, resp.Status, took.Round(time.Microsecond))
	if a.logLevel == "debug" {
		for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
			fmt.Fprintf(a.err, "  %s: %s\n", name, strings.Join(resp.Header[name], ", "))
		}
	}
}

// problemOf reads an error answer.
func problemOf(resp *http.Response, method, path string, content []byte) error {
	p := &problem{}
	if json.Unmarshal(content, p) != nil || p.Title == "" {
		p.Title = fmt.Sprintf("%s %s answered %s", method, path, resp.Status)
		p.Detail = strings.TrimSpace(string(content))
	}
	p.Status = resp.StatusCode
	if len(p.Unreadable) > 0 { // of which the detail has the fields, too
		p.Parameters = append(p.Parameters, p.Unreadable...)
		p.Detail, _, _ = strings.Cut(p.Detail, ": ")
	}
	hint := ""
	switch p.Status {
	case http.StatusUnauthorized:
		hint = "\nThe token is not accepted here. Make one with 'atollctl generate user-token' beside the control plane"
	case http.StatusForbidden:
		hint = "\nGive a token that may do this with --token or --token-file"
	}
	if hint != "" {
		return &exitError{p.code(), fmt.Errorf("%w%s", p, hint)}
	}
	return &exitError{p.code(), p}
}

// allKinds lists the kinds of the server.
func (c *client) allKinds(ctx context.Context) ([]kindInfo, error) {
	if c.kinds == nil {
		answer, err := c.api(nil).GetItsResources(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range answer.Resources {
			k := kindInfo{
				Name: r.Name, Scope: r.Scope, ReadOnly: r.ReadOnly, Path: r.Path, Display: r.SingularDisplayName,
				Aliases: r.Aliases, ShortName: r.ShortName, IncludeInFederation: r.IncludeInFederation,
				AdminOnly: r.AdminOnly != nil && *r.AdminOnly,
			}
			if r.Singular != nil {
				k.Singular = *r.Singular
			}
			if r.Policy != nil {
				k.Policy = &policyInfo{IsTargetRef: r.Policy.IsTargetRef}
			}
			c.kinds = append(c.kinds, k)
		}
	}
	return c.kinds, nil
}

// kindByName finds a kind by type, path segment, singular or short name.
func (c *client) kindByName(ctx context.Context, name string) (kindInfo, error) {
	kinds, err := c.allKinds(ctx)
	if err != nil {
		return kindInfo{}, err
	}
	for _, k := range kinds {
		if k.named(strings.ToLower(name)) {
			return k, nil
		}
	}
	return kindInfo{}, failWith(exitUsage, "unknown kind %q%s; 'atollctl explain' lists all", name, meant(kinds, name))
}

// meant suggests the kind that a word with a slip may be.
func meant(kinds []kindInfo, word string) string {
	best, least := "", 3
	for _, k := range kinds {
		for _, name := range []string{k.Path, k.Singular, k.Name} {
			if d := distance(strings.ToLower(word), strings.ToLower(name)); d < least {
				best, least = name, d
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// distance counts the letters to insert, remove or replace between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// page is one or all pages of a list.
type page struct {
	items    []json.RawMessage
	total    int
	next     string // where the next page begins; empty: nowhere
	revision uint64 // of the store when the first page was read
}

// list reads all pages of a list, or one page when size is given.
func (c *client) list(ctx context.Context, of listing, query url.Values) (items []json.RawMessage, total int, err error) {
	p, err := c.pages(ctx, of, query, nil)
	return p.items, p.total, err
}

func (c *client) pages(ctx context.Context, of listing, query url.Values, header http.Header) (all page, err error) {
	query = cloneQuery(query)
	onePage := query.Get("size") != ""
	if !onePage {
		query.Set("size", "1000")
	}
	for {
		var got answer
		one, err := of(ctx, c.api(&got), api.WithQuery(query), api.WithHeader(header))
		if err != nil {
			return page{}, err
		}
		if all.revision == 0 {
			all.revision = got.revision
		}
		all.items, all.total = append(all.items, one.Items...), int(one.Total)
		if one.Next == nil || *one.Next == "" {
			return all, nil
		}
		u, err := url.Parse(*one.Next)
		if err != nil {
			return page{}, err
		}
		if onePage {
			all.next = u.Query().Get("offset")
			return all, nil
		}
		query = u.Query() // the same server, by the way we reach it
	}
}

// isStatus tells whether err is such an answer of the server.
func isStatus(err error, status int) bool {
	var p *problem
	return errors.As(err, &p) && p.Status == status
}

func isNotFound(err error) bool { return isStatus(err, http.StatusNotFound) }
