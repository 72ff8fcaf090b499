package identity

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
)

// answering is the port of an application that answers with a text.
func answering(t *testing.T, text string) (int, error) {
	app := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, text) }))
	t.Cleanup(app.Close)
	u, err := url.Parse(app.URL)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Port())
}
