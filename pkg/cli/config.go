package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// settings is the file of contexts.
type settings struct {
	ControlPlanes  []controlPlane `json:"controlPlanes,omitempty"`
	Contexts       []contextEntry `json:"contexts,omitempty"`
	CurrentContext string         `json:"currentContext,omitempty"`
}

type controlPlane struct {
	Name       string `json:"name"`
	URL        string `json:"url"`
	Token      string `json:"token,omitempty"`
	TokenFile  string `json:"tokenFile,omitempty"`
	CACertFile string `json:"caCertFile,omitempty"`
	SkipVerify bool   `json:"skipVerify,omitempty"`

	ClientCertFile string            `json:"clientCertFile,omitempty"`
	ClientKeyFile  string            `json:"clientKeyFile,omitempty"`
	Headers        map[string]string `json:"headers,omitempty"`
}

type contextEntry struct {
	Name         string `json:"name"`
	ControlPlane string `json:"controlPlane"`
	Mesh         string `json:"mesh,omitempty"`
}

func (s *settings) current(name string) (contextEntry, bool) {
	if name == "" {
		name = s.CurrentContext
	}
	i := slices.IndexFunc(s.Contexts, func(c contextEntry) bool { return c.Name == name })
	if i < 0 {
		return contextEntry{}, false
	}
	return s.Contexts[i], true
}

func (s *settings) controlPlane(name string) (controlPlane, bool) {
	i := slices.IndexFunc(s.ControlPlanes, func(c controlPlane) bool { return c.Name == name })
	if i < 0 {
		return controlPlane{}, false
	}
	return s.ControlPlanes[i], true
}

func (a *app) configPath() string {
	if a.configFile != "" {
		return a.configFile
	}
	dir, err := os.UserConfigDir() // $XDG_CONFIG_HOME, else ~/.config
	if err != nil {
		dir = "."
	}
	return filepath.Join(dir, "atoll", "config")
}

func (a *app) loadConfig() (*settings, error) {
	s := &settings{}
	if a.noConfig {
		return s, nil
	}
	b, err := os.ReadFile(a.configPath())
	if os.IsNotExist(err) && a.configFile == "" {
		return s, nil
	}
	if err != nil {
		return nil, failWith(exitUsage, "%w", err)
	}
	if err := yaml.UnmarshalStrict(b, s); err != nil {
		return nil, failWith(exitUsage, "%s: %w", a.configPath(), err)
	}
	return s, nil
}

// saveConfig writes the file whole or not at all; it may hold tokens.
func (a *app) saveConfig(s *settings) error {
	b, err := yaml.Marshal(s)
	if err != nil {
		return err
	}
	path := a.configPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config-*") // created with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(b); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func (a *app) configCmd() *cobra.Command {
	view := &cobra.Command{
		Use: "view", Short: "Print the contexts, without tokens", Example: `  atollctl config view`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.loadConfig()
			if err != nil {
				return err
			}
			for i := range s.ControlPlanes {
				if s.ControlPlanes[i].Token != "" {
					s.ControlPlanes[i].Token = "*****"
				}
				for name := range s.ControlPlanes[i].Headers {
					s.ControlPlanes[i].Headers[name] = "*****" // often a secret of a proxy in between
				}
			}
			b, err := json.Marshal(s)
			if err != nil {
				return err
			}
			return a.printDocument(b)
		},
	}
	planes := group("control-planes", "Add, list, remove and switch control planes",
		`  atollctl config control-planes add --name prod --address https://cp.example:5682 --token-file token`,
		a.addPlaneCmd(), a.listPlanesCmd(), a.switchPlaneCmd(), a.removePlaneCmd())
	return group("config", "Remember control planes and which one to talk to", `  atollctl config control-planes list`, view, planes)
}

func (a *app) addPlaneCmd() *cobra.Command {
	var cp controlPlane
	var overwrite, skipCheck bool
	var mesh, authType string
	var authConf map[string]string
	c := &cobra.Command{
		Use: "add", Short: "Add a control plane and switch to it",
		Example: `  atollctl config control-planes add --name local --address http://localhost:5681`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cp.Name == "" || cp.URL == "" {
				return failWith(exitUsage, "--name and --address are needed")
			}
			s, err := a.loadConfig()
			if err != nil {
				return err
			}
			if _, ok := s.controlPlane(cp.Name); ok && !overwrite {
				return failWith(exitUsage, "there is a control plane %q already; replace it with --overwrite", cp.Name)
			}
			a.fromEnvironment()
			// Connection flags of this very call are remembered.
			cp.Token, cp.TokenFile, cp.CACertFile, cp.SkipVerify = a.token, a.tokenFile, a.caFile, a.skipVerify
			cp.ClientCertFile, cp.ClientKeyFile = a.clientCert, a.clientKey
			switch authType {
			case "":
			case "tokens":
				if cp.Token = authConf["token"]; cp.Token == "" {
					return failWith(exitUsage, "--auth-type=tokens needs --auth-conf token=TOKEN")
				}
			default:
				return failWith(exitUsage, "unknown --auth-type %q; there is tokens only", authType)
			}
			for _, file := range []*string{&cp.TokenFile, &cp.CACertFile, &cp.ClientCertFile, &cp.ClientKeyFile} {
				if *file == "" {
					continue
				}
				if *file, err = filepath.Abs(*file); err != nil {
					return err
				}
			}
			if !skipCheck {
				cl, err := newClient(cp, a)
				if err != nil {
					return err
				}
				var there index
				if err := cl.whoAnswers(cmd.Context(), &there); err != nil {
					return err
				}
				if there.Version == "" {
					return failWith(exitFailed, "%s does not answer like a control plane; check the address, or add it anyway with --skip-check", cp.URL)
				}
			}
			s.ControlPlanes = append(slices.DeleteFunc(s.ControlPlanes, func(o controlPlane) bool { return o.Name == cp.Name }), cp)
			s.Contexts = append(slices.DeleteFunc(s.Contexts, func(o contextEntry) bool { return o.Name == cp.Name }),
				contextEntry{Name: cp.Name, ControlPlane: cp.Name, Mesh: mesh})
			s.CurrentContext = cp.Name
			if err := a.saveConfig(s); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "added control plane %q and switched to it\n", cp.Name)
			return nil
		},
	}
	c.Flags().StringVar(&cp.Name, "name", "", "name to remember it by")
	c.Flags().StringVar(&cp.URL, "address", "", "URL of its API")
	c.Flags().StringToStringVar(&cp.Headers, "headers", nil, "header to send with every call: name=value")
	c.Flags().StringVar(&authType, "auth-type", "", "how to authenticate: tokens")
	c.Flags().StringToStringVar(&authConf, "auth-conf", nil, "settings of --auth-type: token=TOKEN")
	c.Flags().StringVar(&mesh, "default-mesh", "", "mesh that commands use when none is given")
	c.Flags().BoolVar(&overwrite, "overwrite", false, "replace one of the same name")
	c.Flags().BoolVar(&skipCheck, "skip-check", false, "do not ask whether it answers")
	return c
}

func (a *app) listPlanesCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List control planes", Example: `  atollctl config control-planes list`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.loadConfig()
			if err != nil {
				return err
			}
			var rows [][]string
			for _, c := range s.Contexts {
				mark := ""
				if c.Name == s.CurrentContext {
					mark = "*"
				}
				cp, _ := s.controlPlane(c.ControlPlane)
				rows = append(rows, []string{mark, c.Name, cp.URL, orDash(c.Mesh)})
			}
			return a.printTable([]string{"ACTIVE", "NAME", "ADDRESS", "MESH"}, rows)
		},
	}
}

func (a *app) switchPlaneCmd() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "switch", Short: "Talk to another control plane from now on", Example: `  atollctl config control-planes switch --name prod`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return a.changeConfig(func(s *settings) error {
				if _, ok := s.current(name); !ok || name == "" {
					return failWith(exitNotFound, "there is no context %q; see 'atollctl config control-planes list'", name)
				}
				s.CurrentContext = name
				fmt.Fprintf(a.out, "switched to %q\n", name)
				return nil
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "its name")
	return c
}

func (a *app) removePlaneCmd() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "remove", Short: "Forget a control plane", Example: `  atollctl config control-planes remove --name prod`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return a.changeConfig(func(s *settings) error {
				if _, ok := s.controlPlane(name); !ok {
					return failWith(exitNotFound, "there is no control plane %q", name)
				}
				s.ControlPlanes = slices.DeleteFunc(s.ControlPlanes, func(c controlPlane) bool { return c.Name == name })
				s.Contexts = slices.DeleteFunc(s.Contexts, func(c contextEntry) bool { return c.ControlPlane == name })
				if _, ok := s.current(""); !ok {
					s.CurrentContext = ""
				}
				fmt.Fprintf(a.out, "removed %q\n", name)
				return nil
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "its name")
	return c
}

func (a *app) changeConfig(change func(*settings) error) error {
	s, err := a.loadConfig()
	if err != nil {
		return err
	}
	if err := change(s); err != nil {
		return err
	}
	return a.saveConfig(s)
}
