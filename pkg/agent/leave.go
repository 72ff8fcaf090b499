package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// leaveTimeout bounds how long a stopping agent waits for its control plane,
// which may be stopping too.
const leaveTimeout = 2 * time.Second

// leave tells the control plane that this proxy is about to stop, so that others
// are told not to call it while it still serves. A control plane that does not
// know the request notices when the stream ends.
func (c *Config) leave(ctx context.Context, r *bootstrapRequest, ca []byte) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]string{"mesh": r.Mesh, "name": r.Name, "dataplaneToken": r.DataplaneToken})
	if err != nil {
		return err
	}
	client, err := c.client(ca)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.ControlPlane.Address, "/")+"/drain", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotFound {
		return nil
	}
	why, err := io.ReadAll(io.LimitReader(resp.Body, 512))
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(why)))
}
