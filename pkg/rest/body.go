package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// readBody returns the JSON of a request whose body is JSON or YAML.
func (a *API) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	isYAML, err := mediaType(r)
	if err != nil {
		return nil, err
	}
	body, err := whileReading(r.Context(), func() ([]byte, error) { return a.readAll(r) })
	if err != nil {
		return nil, err
	}
	if isYAML {
		return yamlToJSON(body)
	}
	return body, nil
}

// maxDrain bounds what is read of a body that is too large. Most clients look for
// the answer only after they sent everything.
const maxDrain = 64 << 20

func (a *API) readAll(r *http.Request) ([]byte, error) {
	tooLarge := &http.MaxBytesError{Limit: a.MaxBodyBytes}
	if r.ContentLength > a.MaxBodyBytes && r.Header.Get("Expect") != "" {
		return nil, tooLarge // the client waits to be asked for the body
	}
	if r.ContentLength <= a.MaxBodyBytes {
		body, err := io.ReadAll(io.LimitReader(r.Body, a.MaxBodyBytes+1))
		if err != nil {
			return nil, badRequest("the body could not be read: %v", err)
		}
		if int64(len(body)) <= a.MaxBodyBytes {
			return body, nil
		}
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxDrain) // ends early or late, the answer is the same
	return nil, tooLarge
}

func mediaType(r *http.Request) (isYAML bool, err error) {
	header := r.Header.Get("Content-Type")
	media, _, parseErr := mime.ParseMediaType(header)
	switch media {
	case "application/json":
		return false, nil
	case "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml":
		return true, nil
	}
	detail := fmt.Sprintf("Content-Type must be application/json or application/yaml, got %q", header)
	if parseErr != nil && header != "" {
		detail += ": " + parseErr.Error()
	}
	return false, &problem{http.StatusUnsupportedMediaType, "Unsupported Media Type", detail, nil}
}

// yamlToJSON converts the one document of a body.
func yamlToJSON(body []byte) ([]byte, error) {
	docs := yaml.NewDecoder(bytes.NewReader(body))
	var first, second yaml.Node
	if err := docs.Decode(&first); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, badRequest("the body is empty")
		}
		line, reason := resource.YAMLSyntax(err)
		return nil, badRequest("the body is not valid YAML: line %d: %s", line, reason)
	}
	if err := docs.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, badRequest("the body holds more than one YAML document; send one resource a request")
	}
	out, err := sigsyaml.YAMLToJSONStrict(body)
	if err != nil {
		return nil, badRequest("the body is not valid YAML: %s", yamlReason(err))
	}
	return out, nil
}

// yamlReason is the parser's text, which says the line, without its prefixes.
func yamlReason(err error) string {
	text := err.Error()
	for _, prefix := range []string{"error converting YAML to JSON: ", "yaml: ", "unmarshal errors:\n"} {
		text = strings.TrimPrefix(text, prefix)
	}
	return strings.Join(strings.Fields(text), " ")
}

// decode reads a resource of a kind. Structural violations come back as a
// problem with their fields.
func decode(k *resource.Kind, body []byte) (*resource.Object, error) {
	o, err := k.DecodeJSON(body)
	err = requireHead(k, body, err)
	var fields resource.FieldErrors
	var undecodable *resource.UndecodableError
	switch {
	case err == nil:
		return o, nil
	case errors.As(err, &undecodable):
		return nil, errors.Join(badRequest("invalid %s object: %s", k.Type, undecodable), undecodable)
	case errors.As(err, &fields):
		return nil, invalid(titlePut, fields)
	case errors.Is(err, resource.ErrSyntax):
		return nil, badRequest("invalid %s object: %s", k.Type, position(body, err))
	}
	return nil, badRequest("invalid %s object: %v", k.Type, err)
}

// requireHead adds to what is wrong with the structure of a body which of the
// members that every resource has are missing. Kinds without a schema are
// checked later.
func requireHead(k *resource.Kind, body []byte, err error) error {
	var fields resource.FieldErrors
	if k.Proto || err != nil && !errors.As(err, &fields) {
		return err
	}
	var head map[string]any
	_ = json.Unmarshal(body, &head) // was read before
	n := len(fields)
	for _, member := range []string{"type", "name", "spec"} {
		reason := member + " in body is required"
		if head[member] == nil && !slices.Contains(fields, resource.FieldError{Reason: reason}) {
			fields.Add("", reason)
		}
	}
	if len(fields) == n {
		return err
	}
	return fields
}

// position says where and why a body is not the JSON of an object.
func position(body []byte, err error) string {
	var (
		syntax *json.SyntaxError
		typ    *json.UnmarshalTypeError
		offset = int64(len(body))
		reason string
	)
	switch {
	case errors.As(err, &syntax):
		offset, reason = syntax.Offset, syntax.Error()
	case errors.As(err, &typ):
		offset, reason = typ.Offset, "expected an object, got "+typ.Value
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		reason = "unexpected end of JSON input"
	default:
		return strings.TrimPrefix(err.Error(), resource.ErrSyntax.Error()+": ")
	}
	before := body[:max(0, min(offset-1, int64(len(body))))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("line %d, column %d: %s", line, column, reason)
}
