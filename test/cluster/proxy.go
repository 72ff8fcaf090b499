package cluster

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Ports that every proxy has on its own address.
const (
	AdminPort     = 9901
	ReadinessPort = 9902
)

// ProxySpec describes a proxy and its Dataplane.
type ProxySpec struct {
	Mesh    string
	Name    string
	Address string            // default: a new loopback address
	Labels  map[string]string // kuma.io/workload makes a service of that name
	// AppPort, on 127.0.0.1, is the application behind the inbound; 0: none.
	AppPort int
	// InboundPort, on Address, is where others reach the application; default 8080.
	InboundPort int
	Protocol    string         // of the application; default http
	Outbounds   map[int]string // port on Address to MeshService, called on its port 8080
	// MultiZone and External are further outbounds: port on Address to
	// MeshMultiZoneService, called on its port 8080, and to MeshExternalService.
	MultiZone, External map[int]string
	// BytesPort, on 127.0.0.1, is a second application, which speaks TCP, behind
	// the inbound "bytes" on port 8081; 0: none.
	BytesPort int
	// MultiZoneBytes are outbounds to MeshMultiZoneServices, called on port 8081.
	MultiZoneBytes map[int]string
	// Ingress and Egress are ports on Address where a zone proxy listens; 0: not.
	Ingress, Egress int
	Env             []string // for the agent
	// Networking, in YAML, replaces what the fields above say of addresses and
	// ports. %s in it is Address.
	Networking string
}

// Proxy is an agent with its Envoy.
type Proxy struct {
	*Process
	Spec  ProxySpec
	Zone  *ControlPlane
	ready string
}

// Proxy starts an agent that brings its Dataplane to a zone, and waits until it
// is ready. issuer is the control plane that issues its token: the global, or
// the zone itself when it has none; nil: the zone asks for no token.
func (c *Cluster) Proxy(ctx context.Context, zone, issuer *ControlPlane, spec ProxySpec) (*Proxy, error) {
	if spec.Address == "" {
		spec.Address = c.Address()
	}
	if spec.InboundPort == 0 {
		spec.InboundPort = 8080
	}
	if spec.Protocol == "" {
		spec.Protocol = "http"
	}
	name := zone.Name + "-" + spec.Name
	args := []string{
		"run", "--cp-address", fmt.Sprintf("https://127.0.0.1:%d", zone.DPPort), "--ca-cert-file", zone.CAFile(),
		"--binary-path", c.Envoy, "--concurrency", "1", "--envoy-log-level", "warning",
		"--work-dir", filepath.Join(c.Dir, name), "--drain-time", "1s", "--dataplane", spec.dataplane(),
	}
	if issuer != nil {
		var token string
		claims := map[string]any{"mesh": spec.Mesh, "name": spec.Name, "validFor": "24h"}
		if w := spec.Labels["kuma.io/workload"]; w != "" { // its identity is made of it
			claims["workload"] = w
		}
		err := issuer.Do(ctx, http.MethodPost, "/tokens/dataplane", claims, &token)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(c.Dir, name+".token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--dataplane-token-file", file)
	}
	p := &Proxy{
		Spec: spec, Zone: zone,
		ready:   fmt.Sprintf("http://%s:%d/ready", spec.Address, ReadinessPort),
		Process: c.Process(name, append([]string{fmt.Sprintf("ATOLL_READINESS_PORT=%d", ReadinessPort)}, spec.Env...), filepath.Join(c.Bin, "atoll-dp"), args...),
	}
	return p, p.Start(ctx)
}

// Start runs the agent and waits until its Envoy is ready.
func (p *Proxy) Start(ctx context.Context) error {
	if err := p.Process.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	err := Until(ctx, p.Name+" is not ready", func(ctx context.Context) error {
		if err := p.Exited(); err != nil {
			cancel()
			return err
		}
		return get(ctx, p.ready)
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Tail(2000))
	}
	return nil
}

// URL is where the application calls what is behind an outbound.
func (p *Proxy) URL(port int) string { return fmt.Sprintf("http://%s:%d/", p.Spec.Address, port) }

// EnvoyPID is the number of the agent's Envoy, 0 when it does not run.
func (p *Proxy) EnvoyPID() int {
	agent := p.PID()
	if agent == 0 {
		return 0
	}
	// The child belongs to the thread that started it, whichever that was.
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", agent))
	if err != nil {
		return 0
	}
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		if f := strings.Fields(string(b)); len(f) > 0 {
			pid, _ := strconv.Atoi(f[0])
			return pid
		}
	}
	return 0
}

// KillEnvoy ends the Envoy as a crash does; the agent has to start another one.
func (p *Proxy) KillEnvoy() error {
	pid := p.EnvoyPID()
	if pid == 0 {
		return fmt.Errorf("%s has no Envoy", p.Name)
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// SignalAll sends a signal to the agent and to its Envoy.
func (p *Proxy) SignalAll(s syscall.Signal) {
	if pid := p.EnvoyPID(); pid != 0 {
		_ = syscall.Kill(pid, s) // ended meanwhile: as good
	}
	p.Signal(s)
}

// KillAll ends the agent and its Envoy at once, as the loss of their machine
// does, and waits for the end of the agent.
func (p *Proxy) KillAll() {
	p.SignalAll(syscall.SIGKILL)
	p.Kill()
}

func (s *ProxySpec) dataplane() string {
	var b strings.Builder
	fmt.Fprintf(&b, "type: Dataplane\nmesh: %s\nname: %s\n", s.Mesh, s.Name)
	if len(s.Labels) > 0 {
		b.WriteString("labels:\n")
		for k, v := range s.Labels {
			fmt.Fprintf(&b, "  %s: %q\n", k, v)
		}
	}
	if s.Networking != "" {
		fmt.Fprintf(&b, "networking:\n  address: %s\n  admin: {port: %d}\n%s\n", s.Address, AdminPort, strings.ReplaceAll(s.Networking, "%s", s.Address))
		return b.String()
	}
	fmt.Fprintf(&b, "networking:\n  address: %s\n  admin: {port: %d}\n", s.Address, AdminPort)
	switch {
	case s.AppPort > 0:
		fmt.Fprintf(&b, "  inbound:\n  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, protocol: %s, name: main}\n", s.InboundPort, s.AppPort, s.Protocol)
	case s.Ingress+s.Egress == 0:
		b.WriteString("  inbound:\n  - {port: 49151}\n") // serves nothing
	}
	if s.AppPort > 0 && s.BytesPort > 0 {
		fmt.Fprintf(&b, "  - {port: 8081, servicePort: %d, serviceAddress: 127.0.0.1, protocol: tcp, name: bytes}\n", s.BytesPort)
	}
	if s.Ingress+s.Egress > 0 {
		b.WriteString("  listeners:\n")
	}
	if s.Ingress > 0 {
		fmt.Fprintf(&b, "  - {type: ZoneIngress, address: %s, port: %d, name: in}\n", s.Address, s.Ingress)
	}
	if s.Egress > 0 {
		fmt.Fprintf(&b, "  - {type: ZoneEgress, address: %s, port: %d, name: out}\n", s.Address, s.Egress)
	}
	if len(s.Outbounds)+len(s.MultiZone)+len(s.MultiZoneBytes)+len(s.External) > 0 {
		b.WriteString("  outbound:\n")
	}
	for port, service := range s.Outbounds {
		fmt.Fprintf(&b, "  - {address: %s, port: %d, backendRef: {kind: MeshService, name: %s, port: 8080}}\n", s.Address, port, service)
	}
	for port, service := range s.MultiZone {
		fmt.Fprintf(&b, "  - {address: %s, port: %d, backendRef: {kind: MeshMultiZoneService, name: %s, port: 8080}}\n", s.Address, port, service)
	}
	for port, service := range s.MultiZoneBytes {
		fmt.Fprintf(&b, "  - {address: %s, port: %d, backendRef: {kind: MeshMultiZoneService, name: %s, port: 8081}}\n", s.Address, port, service)
	}
	for port, service := range s.External {
		fmt.Fprintf(&b, "  - {address: %s, port: %d, backendRef: {kind: MeshExternalService, name: %s}}\n", s.Address, port, service)
	}
	return b.String()
}

// WaitAnswer waits until a URL answers with success.
func WaitAnswer(ctx context.Context, limit time.Duration, url string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return Until(ctx, url, func(ctx context.Context) error { return get(ctx, url) })
}
