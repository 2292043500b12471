package sweep

import "testing"

// What a look at the node costs: the first one, and one more. Beside tens of thousands of processes of
// other users it is the second that counts: the end of a node takes many.
func BenchmarkTable(b *testing.B) {
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			var t Table
			look(b, &t)
		}
	})
	b.Run("again", func(b *testing.B) {
		var t Table
		look(b, &t)
		for b.Loop() {
			look(b, &t)
		}
	})
	b.Run("new", func(b *testing.B) {
		var t Table
		look(b, &t)
		for b.Loop() {
			if _, err := t.New(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Sweep of a node that left nothing.
func BenchmarkSweep(b *testing.B) {
	for b.Loop() {
		if _, err := Sweep("no such node", ""); err != nil {
			b.Fatal(err)
		}
	}
}

func look(b *testing.B, t *Table) {
	b.Helper()
	all, err := t.All()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(all)), "processes")
}
