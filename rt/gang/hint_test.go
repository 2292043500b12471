package gang

import (
	"strings"
	"testing"
)

func TestHint(t *testing.T) {
	const tail = "Traceback (most recent call last):\nRuntimeError: CUDA error: invalid device ordinal\nCUDA kernel errors might be ..."
	for _, tc := range []struct {
		own         uint32
		cause, tail string
		want        string
	}{
		{1, "rank", tail, "--gpu-visibility=node"},
		{0, "rank", tail, ""}, // it saw all of them
		{1, "rank", "CUDA out of memory", ""},
		{1, "node", tail, ""},
	} {
		got := End{Cause: tc.cause, Tail: tc.tail, Code: 1}.Hint(&Program{GpusPerRank: tc.own})
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("own %d, %s, %q: %q", tc.own, tc.cause, tc.tail, got)
		}
	}
	if got := (End{Cause: "rank", Tail: tail}).Hint(nil); got != "" {
		t.Errorf("without a program: %q", got)
	}
}
