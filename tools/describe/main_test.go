package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// TestFresh: what the API says of its fields is what the source says now.
func TestFresh(t *testing.T) {
	want, err := describe(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, output))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the source says; run make generate", output)
	}
}

// TestEveryKindIsDescribed: of each field of the kinds that users write most,
// something is said.
func TestEveryKindIsDescribed(t *testing.T) {
	b, err := describe(root)
	if err != nil {
		t.Fatal(err)
	}
	var texts map[string]string
	if err := json.Unmarshal(b, &texts); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{
		"Mesh", "Mesh.skipCreatingInitialPolicies", "Zone.enabled", "Secret.data", "GlobalSecret.data",
		"Dataplane.networking", "Dataplane.networking.address", "Dataplane.networking.inbound.port", "Dataplane.networking.inbound.serviceProbe.tcp",
		"Dataplane.networking.outbound.backendRef.kind", "Dataplane.networking.transparentProxying.reachableBackends.refs",
		"DataplaneInsight.mTLS.certificateExpirationTime", "ZoneInsight.subscriptions.connectTime", "MeshInsight.dataplanes.partiallyDegraded",
		"ContainerPatch.spec.sidecarPatch.value", "MeshTimeout.spec.to.default.idleTimeout",
	} {
		text := texts[field]
		if text == "" {
			t.Errorf("nothing is said of %s", field)
		}
		if strings.Contains(text, "\n") {
			t.Errorf("%s: %q breaks lines", field, text)
		}
	}
}
