package rt_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
)

// Where there is no memory for values all make it. With memory, ci/e2e/local has it.
func TestCachedWithoutMemory(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	made := 0
	make := func(context.Context) (int, error) {
		made++
		return made, nil
	}
	for want := 1; want <= 2; want++ {
		if n, err := rt.Cached(ctx, "k", make); n != want || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	var e *rt.Error
	for key, want := range map[string]string{"": "an empty one", strings.Repeat("k", 257): "a longer one"} {
		if _, err := rt.Cached(ctx, key, make); !errors.As(err, &e) || e.Code != "OPTION" || !strings.Contains(e.Message, want) {
			t.Errorf("a key of %d bytes: %v", len(key), err)
		}
	}
}
