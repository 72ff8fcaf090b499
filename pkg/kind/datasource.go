package kind

import "github.com/atoll-mesh/atoll/pkg/resource"

// Values of SecureDataSource.Type.
const (
	SourceFile           = "File"
	SourceSecret         = "Secret"
	SourceEnvVar         = "EnvVar"
	SourceInsecureInline = "InsecureInline"
)

// SecureDataSource says where something secret is to be read. Type tells which
// other member counts.
type SecureDataSource struct {
	Type string `json:"type" schema:"enum=File|Secret|EnvVar|InsecureInline"`
	// File is read by the control plane.
	File *FileSource `json:"file,omitempty"`
	// SecretRef names a Secret of the same mesh.
	SecretRef *SecretSource `json:"secretRef,omitempty"`
	// EnvVar is one of the control plane.
	EnvVar *EnvVarSource `json:"envVar,omitempty"`
	// InsecureInline stands in the resource for everybody to read.
	InsecureInline *InlineSource `json:"insecureInline,omitempty"`
}

// FileSource is a file of the control plane.
type FileSource struct {
	Path string `json:"path"`
}

// SecretSource names a Secret.
type SecretSource struct {
	Kind string `json:"kind" schema:"enum=Secret"`
	Name string `json:"name"`
}

// EnvVarSource is an environment variable of the control plane.
type EnvVarSource struct {
	Name string `json:"name"`
}

// InlineSource is the data itself.
type InlineSource struct {
	Value string `json:"value"`
}

// validateSecretSource accepts what a user may name without reading files and
// variables of the control plane. Nil is fine.
func validateSecretSource(errs *resource.FieldErrors, path string, s *SecureDataSource) {
	switch {
	case s == nil:
	case s.Type == SourceSecret && s.SecretRef == nil:
		errs.Add(path+".secretRef", "must be set when type is %s", s.Type)
	case s.Type == SourceSecret && s.SecretRef.Name == "":
		errs.Add(path+".secretRef.name", "must not be empty")
	case s.Type == SourceInsecureInline && s.InsecureInline == nil:
		errs.Add(path+".insecureInline", "must be set when type is %s", s.Type)
	case s.Type == SourceFile || s.Type == SourceEnvVar:
		errs.Add(path+".type", "must be %s or %s: a resource cannot read from the control plane's machine", SourceSecret, SourceInsecureInline)
	}
}
