package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpcgzip "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// defaultTimeout bounds one request to a collector.
const defaultTimeout = 30 * time.Second

// reconnect is the pause between attempts to reach a collector, which should be
// back soon after the collector is.
var reconnect = backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second}

// methods of OTLP over gRPC.
var methods = map[Signal]string{
	Traces:  "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
	Logs:    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
	Metrics: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}

// frame is an encoded message. What passes through an agent is not decoded.
type frame []byte

// raw is the codec of frames.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("otlp: %T is no frame", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*f)}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("otlp: %T is no frame", v)
	}
	*f = data.Materialize()
	return nil
}

// Sender sends one signal to one collector. It may be used concurrently.
type Sender struct {
	signal  Signal
	timeout time.Duration
	headers map[string]string
	gzip    bool

	conn *grpc.ClientConn // by gRPC
	http *http.Client     // by HTTP
	url  string
}

func newSender(s Signal, c settings) (*Sender, error) {
	x := &Sender{signal: s, timeout: defaultTimeout, headers: c.headers, gzip: c.compression == "gzip"}
	if c.timeout != 0 {
		x.timeout = c.timeout
	}
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	address, _ := c.target()
	if c.http != nil && *c.http {
		x.http, x.url = httpClient(conf, address), httpURL(conf, address, c.path)
		return x, nil
	}
	creds := insecure.NewCredentials()
	if conf != nil {
		creds = credentials.NewTLS(conf)
	}
	x.conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}))
	return x, err
}

func httpClient(conf *tls.Config, address string) *http.Client {
	t := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	}
	return &http.Client{Transport: t}
}

func httpURL(conf *tls.Config, address, path string) string {
	scheme := "http"
	if conf != nil {
		scheme = "https"
	}
	if strings.HasPrefix(address, "unix://") {
		address = "localhost"
	}
	return scheme + "://" + address + path
}

// Send sends an encoded request and returns the encoded answer.
func (x *Sender) Send(ctx context.Context, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	if x.http != nil {
		return x.post(ctx, body)
	}
	for k, v := range x.headers {
		ctx = metadata.AppendToOutgoingContext(ctx, k, v)
	}
	var opts []grpc.CallOption
	if x.gzip {
		opts = append(opts, grpc.UseCompressor(grpcgzip.Name))
	}
	in, out := frame(body), frame{}
	err := x.conn.Invoke(ctx, methods[x.signal], &in, &out, opts...)
	return out, err
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

func (x *Sender) post(ctx context.Context, body []byte) ([]byte, error) {
	content := io.Reader(bytes.NewReader(body))
	if x.gzip {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(body); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		content = &b
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.url, content)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	if x.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	for k, v := range x.headers {
		req.Header.Set(k, v)
	}
	resp, err := x.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("the collector answers %s", resp.Status)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/x-protobuf") {
		b = nil // an answer without content says that all was taken
	}
	return b, nil
}

// Close ends connections.
func (x *Sender) Close() {
	if x.conn != nil {
		_ = x.conn.Close()
	} else {
		x.http.CloseIdleConnections()
	}
}

// Through sends metrics to whatever Envoy has behind a unix socket.
func Through(socket string, http bool, path string) (*Sender, error) {
	return newSender(Metrics, settings{endpoint: "unix://" + socket, http: &http, path: path + signalPath(Metrics)})
}
