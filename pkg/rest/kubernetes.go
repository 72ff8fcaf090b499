package rest

import (
	"encoding/json"
	"strconv"
	"time"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// systemNamespace is where objects go that have no namespace of their own.
const systemNamespace = "kuma-system"

// annotated are the labels that Kubernetes keeps as annotations, because their
// values may be longer than those of labels.
var annotated = []string{resource.LabelDisplayName, resource.LabelServiceAccount, resource.LabelWorkload}

type kubeMeta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
}

type kubeObject struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   kubeMeta          `json:"metadata"`
	Mesh       string            `json:"mesh,omitempty"`
	Spec       json.RawMessage   `json:"spec,omitempty"`
	Status     json.RawMessage   `json:"status,omitempty"`
	Type       string            `json:"type,omitempty"` // of Secrets
	Data       map[string][]byte `json:"data,omitempty"`
}

// kubernetesObject is a resource as the object that Kubernetes would keep.
func kubernetesObject(o *resource.Object, namespace string) kubeObject {
	k := kubeObject{
		APIVersion: "kuma.io/v1alpha1",
		Kind:       string(o.Type),
		Metadata: kubeMeta{
			Name: o.Name, Namespace: namespace,
			ResourceVersion:   strconv.FormatUint(o.Version, 10),
			CreationTimestamp: o.Created.UTC().Truncate(time.Second),
			Labels:            map[string]string{}, Annotations: map[string]string{},
		},
	}
	for key, v := range o.Labels {
		k.Metadata.Labels[key] = v
	}
	for _, key := range annotated {
		if v, ok := k.Metadata.Labels[key]; ok {
			k.Metadata.Annotations[key] = v
			delete(k.Metadata.Labels, key)
		}
	}
	if o.Kind.Scope == resource.ScopeMesh && (!o.Kind.Proto || o.Type == kind.Secret) {
		k.Metadata.Labels[resource.LabelMesh] = o.Mesh
	}
	switch o.Type {
	case kind.Secret, kind.GlobalSecret:
		k.APIVersion, k.Kind, k.Type = "v1", "Secret", "system.kuma.io/secret"
		if o.Type == kind.GlobalSecret {
			k.Type = "system.kuma.io/global-secret"
		}
		k.Data = map[string][]byte{"value": resource.SpecOf[systemv1.Secret](o).GetData().GetValue()}
		return k
	case kind.Mesh, kind.Zone, kind.ZoneInsight, "MeshInsight":
		k.Metadata.Namespace = "" // of cluster scope
	}
	if o.Kind.Proto && o.Kind.Scope == resource.ScopeMesh {
		k.Mesh = o.Mesh
	}
	k.Spec = resource.SpecJSON(o.Spec)
	if (o.Kind.HasStatus || o.Kind.LocalStatus) && o.Status != nil {
		k.Status = resource.SpecJSON(o.Status)
	}
	return k
}
