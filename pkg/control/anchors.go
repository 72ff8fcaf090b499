package control

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const (
	// labelCA of a MeshTrust that was made for a MeshIdentity names the CA which
	// issues its certificates.
	labelCA = "atoll.mesh/ca"
	// labelOldCA, with the name of a CA that was replaced, tells in Unix seconds
	// when the last certificate of it has ended.
	labelOldCA = "atoll.mesh/old-ca."
	// leaveLater is how much longer than its certificates an old CA stays: proxies
	// go on with it until all know the new one, and clocks differ.
	leaveLater = time.Hour
)

// anchorName is a CA in a label.
func anchorName(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// anchors returns a MeshTrust with the CA of its identity, without those which it
// replaced and whose certificates have all ended, and when the next such one may
// go. What nobody here put there stays.
func (j *identities) anchors(p *pass, o *resource.Object, trust *resource.Object, ca *identity.CA, b *kind.BundledProvider) (*resource.Object, time.Time, error) {
	name := anchorName(ca.Certificate.Raw)
	labels := maps.Clone(trust.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	if old := labels[labelCA]; old != "" && old != name {
		life := identity.DefaultValidity
		if c := b.CertificateParameters; c != nil && c.Expiry != nil {
			life = max(life, time.Duration(*c.Expiry))
		}
		labels[labelOldCA+old] = strconv.FormatInt(p.time.Add(life+leaveLater).Unix(), 10)
	}
	labels[labelCA] = name
	delete(labels, labelOldCA+name) // it is back

	spec := *resource.SpecOf[kind.MeshTrustSpec](trust)
	spec.CABundles = slices.Clone(spec.CABundles)
	var next time.Time
	for key, value := range maps.Clone(labels) {
		old, ok := strings.CutPrefix(key, labelOldCA)
		if !ok {
			continue
		}
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err == nil && time.Unix(seconds, 0).After(p.time) {
			next = earliest(next, time.Unix(seconds, 0))
			continue
		}
		delete(labels, key)
		if err != nil {
			continue // somebody changed it; when it may go is not known
		}
		spec.CABundles = slices.DeleteFunc(spec.CABundles, func(b kind.CABundle) bool { return isAnchor(b, old) })
		j.log.Info("a CA is not trusted any more: all its certificates have ended", "identity", o.ID, "trust", trust.ID, "ca", old)
	}
	if !ca.Anchored(identity.Certificates(&spec)) {
		anchors, err := ca.Anchors()
		if err != nil {
			return nil, time.Time{}, err
		}
		spec.CABundles = append(spec.CABundles, kind.CABundle{Type: kind.BundlePem, Pem: &kind.PemBundle{Value: string(anchors)}})
	}
	return changedObject(trust, labels, &spec, trust.Status), next, nil
}

// isAnchor tells whether a bundle is one CA and nothing else.
func isAnchor(b kind.CABundle, name string) bool {
	found := slices.Collect(identity.Certificates(&kind.MeshTrustSpec{CABundles: []kind.CABundle{b}}))
	return len(found) > 0 && anchorName(found[0]) == name &&
		!slices.ContainsFunc(found, func(der []byte) bool { return !identity.SameCA(found[0], der) })
}
