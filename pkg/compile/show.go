package compile

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/atoll-mesh/atoll/pkg/delta"
)

// JSON is what the proxy is given as JSON, by type URL and name, with private
// keys and other secrets blanked.
func (r *Result) JSON() (map[string]map[string]json.RawMessage, error) {
	out := map[string]map[string]json.RawMessage{}
	for t, named := range r.Resources {
		if len(named) == 0 {
			continue
		}
		of := make(map[string]json.RawMessage, len(named))
		for name, res := range named {
			b, err := JSON(res)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", t, name, err)
			}
			of[name] = b
		}
		out[t.URL()] = of
	}
	return out, nil
}

// JSON is one resource as JSON, likewise.
func JSON(r *delta.Resource) (json.RawMessage, error) {
	m, err := r.Body.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	if s, ok := m.(*tlsv3.Secret); ok {
		blank(s)
	}
	b, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var c bytes.Buffer // protojson varies its spaces on purpose
	err = json.Compact(&c, b)
	return c.Bytes(), err
}

// blank removes what nobody but the proxy may know.
func blank(s *tlsv3.Secret) {
	hidden := &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "[redacted]"}}
	if c := s.GetTlsCertificate(); c != nil {
		c.PrivateKey, c.Password = hidden, nil
	}
	if s.GetGenericSecret() != nil {
		s.GetGenericSecret().Secret = hidden
	}
	if s.GetSessionTicketKeys() != nil {
		s.GetSessionTicketKeys().Keys = []*corev3.DataSource{hidden}
	}
}
