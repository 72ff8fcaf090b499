package cli

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// installing is what a service is made of.
type installing struct {
	*app
	dir    string
	bin    string
	env    map[string]string
	Mode   string
	Zone   string
	Global string
	Token  string
	CA     string
}

func (a *app) installCmd() *cobra.Command {
	c := group("install", "Print what a machine needs to run Atoll as a service",
		`  atollctl install control-plane --mode zone --zone east --output-dir /etc/systemd/system
  atollctl install dataplane --cp-address https://cp.example:5678 --output-dir /etc/systemd/system`,
		a.installControlPlaneCmd(), a.installDataplaneCmd())
	c.Long = `Print what a machine needs to run Atoll as a service of systemd: the unit, and the
file of its settings. Nothing on the machine is changed; with --output-dir the
files are written there.

Atoll does not run on Kubernetes yet, so there are no manifests, and it does not
redirect connections by itself: what kumactl's 'install crds', 'install demo' and
'install transparent-proxy' do is refused.`
	for _, what := range notInstalled {
		c.AddCommand(refused(what.name, what.why))
	}
	return c
}

func (a *app) uninstallCmd() *cobra.Command {
	c := group("uninstall", "Print how to take a service of Atoll off a machine",
		`  atollctl uninstall control-plane
  atollctl uninstall dataplane`)
	for name, unit := range map[string]string{"control-plane": controlPlaneUnit, "dataplane": dataplaneUnit} {
		c.AddCommand(&cobra.Command{
			Use: name, Short: "Print the commands that remove " + unit, Args: args(cobra.NoArgs), Example: "  atollctl uninstall " + name,
			RunE: func(*cobra.Command, []string) error {
				unit, settings := strings.ReplaceAll(unit, "@.", "@*."), settingsFile(unit)
				_, err := fmt.Fprintf(a.out, "systemctl disable --now '%s'\nrm /etc/systemd/system/%s %s\nsystemctl daemon-reload\n# its state stays in /var/lib/atoll; remove that too if nobody needs it\n",
					unit, strings.ReplaceAll(unit, "@*.", "@."), settings)
				return err
			},
		})
	}
	c.AddCommand(refused("transparent-proxy", notInstalled[0].why))
	return c
}

// notInstalled are things that kumactl installs and Atoll does not have.
var notInstalled = []struct{ name, why string }{
	{"transparent-proxy", "Atoll does not redirect connections of a machine yet: declare networking.outbound in the Dataplane, and call these addresses"},
	{"transparent-proxy-validator", "Atoll does not redirect connections of a machine yet"},
	{"crds", "Atoll does not run on Kubernetes yet; its resources are applied with 'atollctl apply'"},
	{"demo", "Atoll does not run on Kubernetes yet; 'make demo' in its repository shows it on one machine"},
}

// refused is a command that says why it does nothing.
func refused(name, why string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: "Not there: " + strings.SplitN(why, ":", 2)[0], Hidden: true, Example: "  atollctl install control-plane",
		DisableFlagParsing: true,
		RunE:               func(*cobra.Command, []string) error { return failWith(exitFailed, "%s", why) },
	}
}

// Units of systemd.
const (
	controlPlaneUnit = "atoll-cp.service"
	dataplaneUnit    = "atoll-dp@.service"
)

func settingsFile(unit string) string {
	return "/etc/atoll/" + strings.TrimRight(strings.TrimSuffix(unit, ".service"), "@*") + ".env"
}

func (i *installing) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&i.dir, "output-dir", "", "folder to write the unit to, and the settings to its subfolder atoll, instead of printing them")
	f.StringVar(&i.bin, "bin-dir", "/usr/local/bin", "folder of the programs")
	f.StringToStringVar(&i.env, "env-var", nil, "further setting (may be repeated): ATOLL_…=value")
}

var modes = []string{"zone", "global"}

func (a *app) installControlPlaneCmd() *cobra.Command {
	i := &installing{app: a}
	c := &cobra.Command{
		Use:   "control-plane",
		Short: "Print the service of a control plane",
		Long: `Print the service of a control plane: a zone of its own, a zone of a global, or a
global. A zone keeps its state in /var/lib/atoll; a global needs PostgreSQL, whose
settings are given with --env-var.`,
		Example: `  atollctl install control-plane --mode zone --zone east
  atollctl install control-plane --mode zone --zone east --kds-global-address grpcs://global.example:5685 --kds-token-file /etc/atoll/zone.token
  atollctl install control-plane --mode global --env-var ATOLL_STORE_POSTGRES_HOST=db`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			switch {
			case !slices.Contains(modes, i.Mode):
				return failWith(exitUsage, "unknown --mode %q; choose one of %s", i.Mode, strings.Join(modes, ", "))
			case i.Mode == "zone" && i.Zone == "":
				return failWith(exitUsage, "a zone needs a name; give it with --zone")
			case i.Mode == "global" && (i.Zone != "" || i.Global != ""):
				return failWith(exitUsage, "--zone and --kds-global-address are for --mode zone")
			case i.Global != "" && !strings.HasPrefix(i.Global, "grpcs://") && !strings.HasPrefix(i.Global, "grpc://"):
				return failWith(exitUsage, "--kds-global-address looks like grpcs://global.example:5685, got %q", i.Global)
			}
			settings := map[string]string{"ATOLL_MODE": i.Mode, "ATOLL_GENERAL_WORK_DIR": "/var/lib/atoll"}
			set := func(name, value string) {
				if value != "" {
					settings[name] = value
				}
			}
			set("ATOLL_MULTIZONE_ZONE_NAME", i.Zone)
			set("ATOLL_MULTIZONE_ZONE_GLOBAL_ADDRESS", i.Global)
			set("ATOLL_MULTIZONE_ZONE_KDS_AUTH_CP_TOKEN_PATH", i.Token)
			set("ATOLL_MULTIZONE_ZONE_KDS_ROOT_CA_FILE", i.CA)
			return i.install(controlPlaneUnit, settings, cpUnit)
		},
	}
	f := c.Flags()
	f.StringVar(&i.Mode, "mode", "zone", "zone or global")
	f.StringVar(&i.Zone, "zone", "", "name of the zone")
	f.StringVar(&i.Global, "kds-global-address", "", "where the global serves its zones; empty: this zone has no global")
	f.StringVar(&i.Token, "kds-token-file", "", "file with the token of the zone, which the global issues")
	f.StringVar(&i.CA, "kds-root-ca-file", "", "file with the authority of the global's certificate")
	i.flags(c)
	return c
}

func (a *app) installDataplaneCmd() *cobra.Command {
	i := &installing{app: a}
	var address string
	c := &cobra.Command{
		Use:   "dataplane",
		Short: "Print the service of a proxy",
		Long: `Print the service of proxies, of which a machine may have several: atoll-dp@web is
the one whose Dataplane is in /etc/atoll/web.yaml and whose token is in
/etc/atoll/web.token.`,
		Example: `  atollctl install dataplane --cp-address https://cp.example:5678 --cp-ca-cert-file /etc/atoll/cp.crt`,
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if !strings.HasPrefix(address, "https://") {
				return failWith(exitUsage, "--cp-address looks like https://cp.example:5678, got %q", address)
			}
			settings := map[string]string{"ATOLL_CONTROL_PLANE_URL": address}
			if i.CA != "" {
				settings["ATOLL_CONTROL_PLANE_CA_CERT_FILE"] = i.CA
			}
			return i.install(dataplaneUnit, settings, dpUnit)
		},
	}
	c.Flags().StringVar(&address, "cp-address", "", "URL of the control plane's server for proxies")
	c.Flags().StringVar(&i.CA, "cp-ca-cert-file", "", "file with the authority of the control plane's certificate")
	i.flags(c)
	return c
}

var envName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// install prints or writes a unit and its settings.
func (i *installing) install(unit string, settings map[string]string, text string) error {
	maps.Copy(settings, i.env)
	var env bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if !envName.MatchString(name) || strings.ContainsAny(value, "\n\r") {
			return failWith(exitUsage, "--env-var: %q cannot be a setting", name+"="+value)
		}
		fmt.Fprintf(&env, "%s=%s\n", name, quoted(value))
	}
	text = strings.NewReplacer("{{bin}}", i.bin, "{{settings}}", settingsFile(unit)).Replace(text)
	if i.dir == "" {
		return i.printFiles(i.out, "/etc/systemd/system/"+unit, text, settingsFile(unit), env.String())
	}
	for path, content := range map[string][]byte{unit: []byte(text), "atoll/" + filepath.Base(settingsFile(unit)): env.Bytes()} {
		path = filepath.Join(i.dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		// Settings may hold a password of the database.
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
		fmt.Fprintf(i.out, "%s written\n", path)
	}
	return nil
}

func (i *installing) printFiles(w io.Writer, unit, text, settings, env string) error {
	_, err := fmt.Fprintf(w, "# %s\n%s\n# %s\n%s", unit, text, settings, env)
	return err
}

// quoted is a value as systemd reads it from a file of settings.
func quoted(value string) string {
	if !strings.ContainsAny(value, " \t\"'\\#$;`") {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(value) + `"`
}

const cpUnit = `[Unit]
Description=Control plane of Atoll
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={{bin}}/atoll-cp run
EnvironmentFile={{settings}}
DynamicUser=yes
StateDirectory=atoll
Restart=always
RestartSec=1s
LimitNOFILE=1048576
ProtectSystem=strict
ProtectHome=yes
PrivateDevices=yes
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
`

const dpUnit = `[Unit]
Description=Proxy of %i in a mesh of Atoll
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={{bin}}/atoll-dp run --dataplane-file /etc/atoll/%i.yaml --dataplane-token-file %d/token --work-dir %S/atoll-dp-%i
EnvironmentFile={{settings}}
LoadCredential=token:/etc/atoll/%i.token
DynamicUser=yes
StateDirectory=atoll-dp-%i
Restart=always
RestartSec=1s
TimeoutStopSec=60s
LimitNOFILE=1048576
ProtectSystem=strict
ProtectHome=yes
PrivateDevices=yes
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
`
