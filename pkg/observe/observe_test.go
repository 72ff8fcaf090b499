package observe

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLoggerLevelsAndFormats(t *testing.T) {
	var b bytes.Buffer
	log, err := NewLogger(&b, "warn", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("loud", "revision", 7)
	if got := b.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"msg":"loud","revision":7`) {
		t.Error(got)
	}
	if off, _ := NewLogger(&b, "off", "text"); off.Enabled(t.Context(), slog.LevelError) {
		t.Error("off still logs")
	}
	for _, bad := range [][2]string{{"loud", "text"}, {"info", "xml"}} {
		if _, err := NewLogger(&b, bad[0], bad[1]); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	body, _ := io.ReadAll(w.Body)
	return w.Code, string(body)
}

func TestDiagnostics(t *testing.T) {
	health := &Health{}
	set := health.Require("store", "not read yet")
	d := &Diagnostics{Health: health, Metrics: NewRegistry()}
	h := d.Handler()
	if code, body := get(t, h, "/ready"); code != 503 || !strings.Contains(body, "store: not read yet") {
		t.Errorf("%d %s", code, body)
	}
	set("")
	if code, _ := get(t, h, "/ready"); code != 200 {
		t.Errorf("ready: %d", code)
	}
	set("gone")
	if code, _ := get(t, h, "/ready"); code != 503 {
		t.Errorf("no longer ready: %d", code)
	}
	if code, _ := get(t, h, "/healthy"); code != 200 {
		t.Errorf("healthy: %d", code)
	}
	if _, body := get(t, h, "/metrics"); !strings.Contains(body, "atoll_build_info{") || !strings.Contains(body, "go_goroutines") {
		t.Error("metrics lack the build or the runtime")
	}
	if code, _ := get(t, h, "/debug/pprof/"); code != 404 {
		t.Errorf("pprof without being asked for: %d", code)
	}
	d.Debug = true
	if code, _ := get(t, d.Handler(), "/debug/pprof/"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
}
