package delta

import "testing"

// SetFewest has batches of that many resources until the test ends.
func SetFewest(t testing.TB, n int) {
	usual := fewest
	t.Cleanup(func() { fewest = usual })
	fewest = n
}
