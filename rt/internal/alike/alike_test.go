package alike

import (
	"math"
	"reflect"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func resources(name string) []*fb.ResourceT { return []*fb.ResourceT{{Name: name, Amount: 5}} }

// What is folded is the same when it is unfolded; what somebody has alone is not folded.
func TestPlacesComeBack(t *testing.T) {
	cpu, lic := resources("CPU"), resources("lic")
	list := []*fb.BundlePlaceT{{Index: 0, Resources: cpu}, {Index: 8, Resources: cpu}, {Index: 9, Resources: cpu, Cpus: []uint32{3}}, {Index: 10, Resources: cpu, Ranks: 1},
		{Index: 11, Resources: lic}, {Index: 20, Resources: lic}, {Index: 30, Resources: lic, Devices: []string{"g0"}}, {Index: 31, Resources: lic}}
	folded := Fold(list, func(a, b *fb.BundlePlaceT) bool { return &a.Resources[0] == &b.Resources[0] })
	if len(folded) != 6 {
		t.Errorf("folded to %d", len(folded))
	}
	if got := Places(folded); !reflect.DeepEqual(got, list) {
		t.Errorf("came back as %+v", got)
	}
	if list[0].Also != nil {
		t.Error("folding changed what was folded")
	}
}

// Bundles come so often as they say, in order; nonsense is refused before it takes memory.
func TestBundlesComeSoOften(t *testing.T) {
	a, b := resources("a"), resources("b")
	got := Bundles([]*fb.BundleT{{Resources: a}, {Resources: b, Times: 3}, {Resources: a, Times: 1}})
	if len(got) != 5 || got[0].Resources[0] != a[0] || got[3].Resources[0] != b[0] || got[4].Resources[0] != a[0] || got[3].Times != 0 {
		t.Errorf("%+v", got)
	}
	if Bundles([]*fb.BundleT{{Times: math.MaxUint32}, {Times: math.MaxUint32}}) != nil {
		t.Error("billions of bundles are made")
	}
}
