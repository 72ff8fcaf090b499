package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The client in the repository is the one of the API as it is.
func TestClientIsCurrent(t *testing.T) {
	want, err := current()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "..", target))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the API is by now; run: go run ./tools/genclient", target)
	}
}
