// Package identity gives proxies SPIFFE identities: which MeshIdentity a
// Dataplane has, what its SPIFFE ID is, the CA that vouches for it, the
// certificates that the control plane issues, and whom a mesh trusts.
//
// Everything but NewCA and Issue is a function of resources; those two need
// randomness and the time, which is given to them.
package identity
