package cli

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
)

func (a *app) generateCmd() *cobra.Command {
	return group("generate", "Make tokens, keys and certificates",
		`  atollctl generate dataplane-token --name backend-1 --valid-for 720h >token
  atollctl generate zone-token --zone east --valid-for 8760h`,
		a.dataplaneTokenCmd(), a.zoneTokenCmd(), a.userTokenCmd(), a.signingKeyCmd(), a.publicKeyCmd(), a.certificateCmd())
}

// tokenFrom asks the server for a token and prints it with nothing around it.
func (a *app) tokenFrom(issue func(*api.Client) (string, error)) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	return a.printToken(issue(cl.api(nil)))
}

func (a *app) printToken(token string, err error) error {
	if err == nil {
		_, err = fmt.Fprintln(a.out, strings.TrimSpace(token))
	}
	return err
}

func text(d time.Duration) *string {
	s := d.String()
	return &s
}

// validFor adds the flag --valid-for, which the server reads.
func validFor(c *cobra.Command, d *time.Duration) {
	c.Flags().DurationVar(d, "valid-for", 24*time.Hour, "how long the token is accepted")
}

func (a *app) dataplaneTokenCmd() *cobra.Command {
	var name, proxyType, workload string
	var tags map[string]string
	var valid time.Duration
	var off offline
	c := &cobra.Command{
		Use:     "dataplane-token",
		Short:   "Make a token with which a proxy proves who it is",
		Example: `  atollctl generate dataplane-token -m shop --name backend-1 --valid-for 720h`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			lists := map[string][]string{}
			for k, v := range tags {
				lists[k] = strings.Split(v, "|")
			}
			if off.keyPath != "" {
				mesh := a.mesh
				if mesh == "" {
					mesh = "default"
				}
				return a.printToken(off.sign(jwt.MapClaims{"Name": name, "Mesh": mesh, "Tags": lists, "Type": proxyType, "Workload": workload}, valid))
			}
			return a.tokenFrom(func(x *api.Client) (string, error) {
				return x.PostTokensDataplane(cmd.Context(), api.PostTokensDataplaneBody{
					Name: &name, Mesh: a.mesh, Tags: lists, Type: &proxyType, Workload: &workload, ValidFor: text(valid),
				})
			})
		},
	}
	a.meshFlag(c)
	c.Flags().StringVar(&name, "name", "", "only for the Dataplane of this name")
	c.Flags().StringVar(&proxyType, "proxy-type", "", "type of proxy: dataplane")
	c.Flags().StringVar(&workload, "workload", "", "only for Dataplanes of this workload")
	c.Flags().StringToStringVar(&tags, "tag", nil, "only for Dataplanes with this label: key=value (key=a|b: one of several)")
	validFor(c, &valid)
	off.flags(c)
	return c
}

func (a *app) zoneTokenCmd() *cobra.Command {
	var zone string
	var scope []string
	var valid time.Duration
	var off offline
	c := &cobra.Command{
		Use:     "zone-token",
		Short:   "Make a token with which a zone's control plane proves which zone it is",
		Example: `  atollctl generate zone-token --zone east --valid-for 8760h`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if zone == "" {
				return failWith(exitUsage, "the zone is missing; give it with --zone")
			}
			if off.keyPath != "" {
				return a.printToken(off.sign(jwt.MapClaims{"Zone": zone, "Scope": scope}, valid))
			}
			return a.tokenFrom(func(x *api.Client) (string, error) {
				return x.PostTokensZone(cmd.Context(), api.PostTokensZoneBody{Zone: zone, Scope: scope, ValidFor: text(valid)})
			})
		},
	}
	c.Flags().StringVar(&zone, "zone", "", "name of the zone")
	c.Flags().StringSliceVar(&scope, "scope", []string{"cp"}, "what the token is for")
	validFor(c, &valid)
	off.flags(c)
	return c
}

func (a *app) userTokenCmd() *cobra.Command {
	var name string
	var groups []string
	var valid time.Duration
	var off offline
	c := &cobra.Command{
		Use:     "user-token",
		Short:   "Make a token with which a person or a tool proves who it is",
		Example: `  atollctl generate user-token --name ci --group mesh-system:admin --valid-for 720h`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return failWith(exitUsage, "the name is missing; give it with --name")
			}
			if off.keyPath != "" {
				return a.printToken(off.sign(jwt.MapClaims{"Name": name, "Groups": groups}, valid))
			}
			return a.tokenFrom(func(x *api.Client) (string, error) {
				return x.PostTokensUser(cmd.Context(), api.PostTokensUserBody{Name: name, Groups: groups, ValidFor: valid.String()})
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "name of the user")
	c.Flags().StringSliceVar(&groups, "group", []string{}, "group of the user (may be repeated)")
	validFor(c, &valid)
	off.flags(c)
	return c
}

const signingKeyBits = 2048 // what the tokens' RS256 is used with

func (a *app) signingKeyCmd() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "signing-key",
		Short:   "Make a key that signs tokens (RSA)",
		Example: `  atollctl generate signing-key --format pem >key.pem`,
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			key, err := rsa.GenerateKey(rand.Reader, signingKeyBits)
			if err != nil {
				return err
			}
			return a.printPEM(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, format)
		},
	}
	c.Flags().StringVar(&format, "format", "pem", "pem, or pem-base64 for the data of a secret")
	return c
}

func (a *app) publicKeyCmd() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:     "public-key",
		Short:   "Print the public half of a signing key",
		Example: `  atollctl generate public-key --signing-key-path key.pem`,
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			key, err := readSigningKey(path)
			if err != nil {
				return err
			}
			return a.printPEM(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)}, "pem")
		},
	}
	c.Flags().StringVar(&path, "signing-key-path", "", "file of the private key")
	return c
}
