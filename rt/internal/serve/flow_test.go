package serve

import "testing"

// What the reader says it has taken holds also for items that are counted as given later: those that an attempt before gave, and one that it had
// before it was counted here.
func TestReaderIsAhead(t *testing.T) {
	f := flow{items: 2}
	f.readerAt(5)
	for i := range 6 {
		f.gave(1)
		if f.held() {
			t.Errorf("held after %d items, of which the reader has 5", i+1)
		}
	}
	if f.gave(1); !f.held() {
		t.Error("not held though two are not taken")
	}
	f = flow{bytes: 10 << 10}
	f.readerAt(1)
	if f.gave(9 << 10); f.held() {
		t.Error("held by what was taken")
	}
	if f.gave(9 << 10); !f.held() {
		t.Error("not held by what was not taken")
	}
}
