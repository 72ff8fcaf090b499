package main

import (
	"io"
	"net"
	"net/http"
	"time"
)

// serveApp is the application of the demo: it answers with its version.
func serveApp(version, port string) error {
	s := &http.Server{
		Addr:              net.JoinHostPort("127.0.0.1", port),
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, version) }),
		ReadHeaderTimeout: 5 * time.Second,
	}
	return s.ListenAndServe()
}
