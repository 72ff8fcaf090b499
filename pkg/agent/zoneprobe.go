package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/agent/zoneprobe"
)

// featureZoneProbes: this agent asks other zones whether they are there, when its
// control plane says whom to ask.
const featureZoneProbes = "atoll-zone-probes"

// probeReport is what an agent tells of other zones.
type probeReport struct {
	Mesh    string              `json:"mesh"`
	Name    string              `json:"name"`
	Targets []zoneprobe.Finding `json:"targets"`
}

// probeSocket is where Envoy takes probes; the control plane cuts long paths
// alike.
func probeSocket(workdir string) string {
	p := filepath.Join(workdir, "atoll-zone-probes")
	if len(p) > 98 {
		p = p[:98]
	}
	return p + ".sock"
}

// probeZones asks other zones until ctx ends, and tells the control plane what
// it found. It needs the control plane for nothing else.
func (c *Config) probeZones(ctx context.Context, r *bootstrapRequest, ca []byte) {
	client, err := c.client(ca)
	if err != nil {
		c.Log.Error("other zones are not asked whether they are there", "error", err)
		return
	}
	defer client.CloseIdleConnections()
	envoy := zoneprobe.NewEnvoy(probeSocket(r.Workdir))
	p := &zoneprobe.Prober{
		Targets: envoy.Targets, Ask: envoy.Ask, Log: c.Log,
		Report: func(ctx context.Context, found []zoneprobe.Finding) error {
			return c.reportZones(ctx, client, &probeReport{Mesh: r.Mesh, Name: r.Name, Targets: found})
		},
	}
	p.Run(ctx)
}

func (c *Config) reportZones(ctx context.Context, client *http.Client, report *probeReport) error {
	body, err := json.Marshal(report)
	if err != nil {
		return err
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	address := strings.TrimSuffix(c.ControlPlane.Address, "/") + "/zone-probes"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return explain(err)
	}
	defer resp.Body.Close()
	why, err := io.ReadAll(io.LimitReader(resp.Body, 512))
	switch {
	case resp.StatusCode/100 == 2, resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusConflict:
		// 404: a control plane that does not want to know; 409: not from this proxy.
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("the control plane answers %s: %s", resp.Status, bytes.TrimSpace(why))
}
