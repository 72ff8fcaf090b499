package policy

// Names returns what the items of spec.to name, in the order in which they are
// merged; the mesh as a whole is left out.
func (ix *Index) Names() []TargetRef {
	var out []TargetRef
	for _, di := range ix.defs {
		for _, e := range di.to {
			if e.ref.Kind != Mesh {
				out = append(out, e.ref)
			}
		}
	}
	return out
}
