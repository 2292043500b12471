//go:build e2e && soak

package yarn

import "testing"

// With Hadoop's own checks of memory and address space, both on, 16 workers look at 1 GiB.
func TestSixteenLookAtAGibibyte(t *testing.T) {
	gatewayOn(t, strict.up(t)).look("20G", 1024, 16, 15)
}
