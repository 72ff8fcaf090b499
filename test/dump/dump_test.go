// Package dump looks into the files of a control plane for what must not be there
// in clear.
package dump

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/cp"
	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/ports"
)

const patience = 90 * time.Second

// TestDatabaseHoldsNoSecretInClear runs a zone with the settings that everybody
// starts with, has it make every secret that it makes, and looks for each in
// every file of its database: while it runs, with the write-ahead log, and after
// it ended.
func TestDatabaseHoldsNoSecretInClear(t *testing.T) {
	dir := t.TempDir()
	api, stop := start(t, dir)
	const own = "a-value-of-a-user-that-nobody-may-read-0123456789"
	put(t, api+"/meshes/default/secrets/own", fmt.Sprintf(`{"type":"Secret","mesh":"default","name":"own","data":%q}`, base64.StdEncoding.EncodeToString([]byte(own))))
	put(t, api+"/meshes/default/secrets/own", fmt.Sprintf(`{"type":"Secret","mesh":"default","name":"own","data":%q}`, base64.StdEncoding.EncodeToString([]byte(own+"-2"))))
	put(t, api+"/meshes/default/meshidentities/ca", `{"type":"MeshIdentity","mesh":"default","name":"ca","spec":{"selector":{"dataplane":{}},
		"provider":{"type":"Bundled","bundled":{"insecureAllowSelfSigned":true,"autogenerate":{"enabled":true}}}}}`)
	wanted := []string{"user-token-signing-key-1", "zone-token-signing-key-1", "admin-user-token", "dataplane-token-signing-key-default-1", "ca-private-key", "own"}
	var secrets map[string][]byte
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := cluster.Until(ctx, "secrets are missing", func(context.Context) error {
		secrets = map[string][]byte{}
		for _, path := range []string{"/secrets?size=1000", "/globalsecrets?size=1000"} {
			var list struct {
				Items []struct {
					Name string
					Data []byte
				}
			}
			if err := json.Unmarshal(get(t, api+path), &list); err != nil {
				t.Fatal(err)
			}
			for _, s := range list.Items {
				secrets[s.Name] = s.Data
			}
		}
		for _, name := range wanted {
			if len(secrets[name]) < 16 {
				return fmt.Errorf("%s: %d bytes", name, len(secrets[name]))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(secrets, "ca-root-ca") // a certificate, which a MeshTrust shows to everybody
	secrets["own, replaced"] = []byte(own)
	scan(t, dir, secrets)
	stop()
	scan(t, dir, secrets)
}

// scan fails for each secret that a file of the database holds, as it is, in one
// of its lines, in base64 or in hexadecimal digits.
func scan(t *testing.T, dir string, secrets map[string][]byte) {
	t.Helper()
	scanned := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasPrefix(d.Name(), "atoll.db") || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		scanned += int64(len(b))
		if bytes.Contains(b, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a private key", d.Name())
		}
		for name, value := range secrets {
			for _, form := range forms(value) {
				if bytes.Contains(b, []byte(form)) {
					t.Errorf("%s holds %s in clear: %.20q…", d.Name(), name, form)
				}
			}
		}
		return nil
	})
	if err != nil || scanned < 10_000 {
		t.Fatalf("%d bytes were scanned: %v", scanned, err)
	}
	t.Logf("%d bytes scanned for %d secrets", scanned, len(secrets))
}

// forms are the ways in which a value may stand in a file. Of base64 the parts
// are compared that do not depend on where in the text the value begins.
func forms(value []byte) []string {
	out := []string{string(value), hex.EncodeToString(value)}
	for skip := range 3 {
		if whole := (len(value) - skip) / 3 * 3; whole >= 12 {
			out = append(out, base64.StdEncoding.EncodeToString(value[skip:skip+whole]))
		}
	}
	for line := range bytes.Lines(value) {
		if line = bytes.TrimSpace(line); len(line) >= 32 && !bytes.HasPrefix(line, []byte("-----")) {
			out = append(out, string(line))
		}
	}
	return out
}

// start runs a control plane in a folder, with nothing but ports set.
func start(t *testing.T, dir string) (api string, stop func()) {
	t.Helper()
	port, err := ports.Free("127.0.0.1", 4)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load("", []string{
		"ATOLL_GENERAL_WORK_DIR=" + dir,
		"ATOLL_API_SERVER_HTTP_INTERFACE=127.0.0.1", fmt.Sprintf("ATOLL_API_SERVER_HTTP_PORT=%d", port[0]),
		"ATOLL_API_SERVER_HTTPS_ENABLED=false",
		fmt.Sprintf("ATOLL_DP_SERVER_PORT=%d", port[1]), fmt.Sprintf("ATOLL_DIAGNOSTICS_SERVER_PORT=%d", port[2]),
		fmt.Sprintf("ATOLL_MONITORING_ASSIGNMENT_SERVER_PORT=%d", port[3]),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.EnsureCertificate(); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cp.Run(ctx, cfg, slog.New(slog.DiscardHandler)) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			end()
			<-ended
		}
	}
	t.Cleanup(stop)
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = cluster.Until(wait, "the control plane is not ready", func(ctx context.Context) error {
		select {
		case err := <-ended:
			ended <- err
			cancel()
			return err
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/ready", port[2]), nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", port[0]), stop
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return b
}

func put(t *testing.T, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Fatalf("PUT %s: %s %s", url, resp.Status, answer)
	}
}
