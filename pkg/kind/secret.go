package kind

import (
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func secretKind() *resource.Kind {
	return resource.Define[system_proto.Secret, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: Secret, Plural: "secrets", Single: "secret",
			Display: "Secret", Displays: "Secrets",
		},
		Scope:     resource.ScopeMesh,
		Flows:     resource.GlobalToZone,
		KeepName:  true,
		AdminOnly: true,
	})
}

func globalSecretKind() *resource.Kind {
	return resource.Define[system_proto.Secret, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: GlobalSecret, Plural: "globalsecrets", Single: "global-secret",
			Aliases: []string{"global-secrets"},
			Display: "Global Secret", Displays: "Global Secrets",
		},
		Scope:     resource.ScopeGlobal,
		Flows:     resource.GlobalToZone,
		KeepName:  true,
		AdminOnly: true,
	})
}

// Names of the secrets that hold token keys, without the key's number.
const (
	UserTokenKeyPrefix = "user-token-signing-key-"
	ZoneTokenKeyPrefix = "zone-token-signing-key-"
	// AdminUserToken is the GlobalSecret with the token of the first admin.
	AdminUserToken = "admin-user-token"
)

// DataplaneTokenKeyPrefix is the name of a mesh's Secrets with keys for
// dataplane tokens, without the key's number.
func DataplaneTokenKeyPrefix(mesh string) string {
	return "dataplane-token-signing-key-" + mesh + "-"
}
