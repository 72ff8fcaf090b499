package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
	"github.com/atoll-mesh/atoll/pkg/observe"
)

// finding is what a check found.
type finding struct {
	level  int
	detail string // what is; empty: as it should be
	remedy string
}

// Levels of findings.
const (
	fine = iota
	doubtful
	faulty
)

// check is one line of the report.
type check struct {
	name string
	run  func(ctx context.Context, c *checking) finding
}

// checking is one run of the checks, with what earlier ones learned.
type checking struct {
	*app
	cl                     *client
	index                  index
	zones, meshes, proxies []json.RawMessage
}

type category struct {
	name   string
	checks []check
}

var categories = []category{
	{"connection", []check{
		{"the control plane answers", asMethod((*checking).reachable)},
		{"client and server speak the same version of the API", asMethod((*checking).version)},
		{"the clocks agree", asMethod((*checking).clock)},
		{"the server's certificate is valid for a while", asMethod((*checking).certificate)},
	}},
	{"access", []check{
		{"the server knows who asks", asMethod((*checking).identity)},
		{"resources can be read", asMethod((*checking).readable)},
	}},
	{"zones", []check{
		{"all zones are connected", asMethod((*checking).connected)},
		{"all zones have what the global sent", asMethod((*checking).inSync)},
		{"no zone rejected a resource", asMethod((*checking).unrejected)},
	}},
	{"proxies", []check{
		{"all proxies are connected and ready", asMethod((*checking).ready)},
		{"no proxy rejected a configuration", asMethod((*checking).accepted)},
	}},
}

func asMethod(f func(*checking, context.Context) finding) func(context.Context, *checking) finding {
	return func(ctx context.Context, c *checking) finding { return f(c, ctx) }
}

func (a *app) checkCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "check [CATEGORY...]",
		Short: "Check that everything works, and say what to do where it does not",
		Long: `Check that everything works, and say what to do where it does not.

Each check is a line: √ for what is as it should be, ‼ for what deserves a look,
× for what is broken. Below each that is not √ stands what to do. Exits with 1
when anything is broken.

Categories: connection, access, zones, proxies. Without argument, all are checked.`,
		Example: `  atollctl check
  atollctl check zones proxies`,
		RunE: func(cmd *cobra.Command, only []string) error {
			for _, name := range only {
				if !slices.ContainsFunc(categories, func(c category) bool { return c.name == name }) {
					return failWith(exitUsage, "unknown category %q; choose among connection, access, zones and proxies", name)
				}
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			return (&checking{app: a, cl: cl}).all(cmd.Context(), only)
		},
	}
}

var marks = map[int][2]string{fine: {green, "√"}, doubtful: {yellow, "‼"}, faulty: {red, "×"}}

// all runs the checks. When the server does not answer there is no point in
// asking it more.
func (c *checking) all(ctx context.Context, only []string) error {
	broken, looked := 0, 0
	for _, cat := range categories {
		if len(only) > 0 && !slices.Contains(only, cat.name) {
			continue
		}
		if looked > 0 {
			fmt.Fprintln(c.out)
		}
		fmt.Fprintf(c.out, "%s\n%s\n", cat.name, strings.Repeat("-", len(cat.name)))
		for _, ch := range cat.checks {
			looked++
			f := ch.run(ctx, c)
			fmt.Fprintf(c.out, "%s %s\n", c.paint(marks[f.level][0], marks[f.level][1]), ch.name)
			if f.level != fine {
				fmt.Fprintf(c.out, "    %s\n", strings.ReplaceAll(f.detail, "\n", "\n    "))
				if f.remedy != "" {
					fmt.Fprintf(c.out, "    → %s\n", f.remedy)
				}
			}
			if f.level != faulty {
				continue
			}
			broken++
			if cat.name == "connection" && ch.name == categories[0].checks[0].name {
				return failWith(exitUnreachable, "the control plane does not answer")
			}
		}
	}
	fmt.Fprintln(c.out)
	if broken > 0 {
		return failWith(exitFailed, "%d of %d checks found something broken", broken, looked)
	}
	fmt.Fprintf(c.out, "%d checks found nothing broken\n", looked)
	return nil
}

// failed is the finding of a check that could not look.
func failed(err error) finding {
	var p *problem
	if errors.As(err, &p) && (p.Status == http.StatusForbidden || p.Status == http.StatusUnauthorized) {
		return finding{faulty, p.Error(), "give a token that may read it with --token or --token-file"}
	}
	return finding{faulty, err.Error(), ""}
}

func (c *checking) reachable(ctx context.Context) finding {
	if err := c.cl.whoAnswers(ctx, &c.index); err != nil {
		return finding{faulty, err.Error(), "start it, or name another one with --server or 'atollctl config control-planes switch'"}
	}
	return finding{}
}

func (c *checking) version(context.Context) finding {
	if c.index.Version == "" {
		return finding{faulty, c.cl.base + " does not say which version it has", "check that the address is that of a control plane"}
	}
	if c.index.Version != observe.APIVersion {
		return finding{doubtful, fmt.Sprintf("the server speaks %s, atollctl %s", c.index.Version, observe.APIVersion), "use the atollctl of the server's release"}
	}
	return finding{}
}

// clockTolerance is how far clocks may differ before tokens and certificates
// suffer.
const clockTolerance = 5 * time.Second

func (c *checking) clock(ctx context.Context) finding {
	got, err := raw(c.cl, func(x *api.Client) (api.GetAnswer, error) { return x.Get(ctx) })
	if err != nil {
		return failed(err)
	}
	there, err := http.ParseTime(got.header.Get("Date"))
	if err != nil {
		return finding{doubtful, "the server does not say what time it is", ""}
	}
	// The header has whole seconds.
	if off := time.Since(there) - time.Second/2; off.Abs() > clockTolerance {
		return finding{faulty, fmt.Sprintf("the server's clock differs by %s", off.Round(time.Second)), "synchronise the clocks (NTP): tokens and certificates hold for a time"}
	}
	return finding{}
}

// certificateNotice is how long before the end of a certificate to say so.
const certificateNotice = 30 * 24 * time.Hour

func (c *checking) certificate(ctx context.Context) finding {
	u, err := url.Parse(c.cl.base)
	if err != nil || u.Scheme != "https" {
		if host := u.Hostname(); host != "localhost" && host != "127.0.0.1" && host != "::1" {
			return finding{doubtful, "the connection to " + host + " is not encrypted", "use https:// and --ca-cert-file"}
		}
		return finding{}
	}
	address := u.Host
	if u.Port() == "" {
		address += ":443"
	}
	conn, err := (&tls.Dialer{Config: c.cl.http.Transport.(*http.Transport).TLSClientConfig}).DialContext(ctx, "tcp", address)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	end := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].NotAfter
	if left := time.Until(end); left < certificateNotice {
		return finding{doubtful, fmt.Sprintf("it ends in %d days", int(left.Hours()/24)), "replace it: apiServer.https.tlsCertFile and tlsKeyFile"}
	}
	return finding{}
}

func (c *checking) identity(ctx context.Context) finding {
	who, err := c.cl.api(nil).GetWhoAmI(ctx)
	if err != nil {
		return failed(err)
	}
	if strings.Contains(who.Name, "anonymous") {
		return finding{doubtful, "the call is anonymous (" + who.Name + ")", "give a token with --token-file; make one with 'atollctl generate user-token' beside the control plane"}
	}
	return finding{}
}

func (c *checking) readable(ctx context.Context) finding {
	var err error
	if c.meshes, _, err = c.cl.list(ctx, kindInfo{Path: meshesPath}.in(""), nil); err != nil {
		return failed(err)
	}
	if len(c.meshes) == 0 {
		return finding{doubtful, "there is no mesh", "create one: echo '{type: Mesh, name: default}' | atollctl apply -f -"}
	}
	return finding{}
}
