package rt_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
)

// partner is an actor whose first method calls the other one's second, which calls this one's third.
type partner struct{ other rt.Handle[*partner] }

var (
	Partner = rt.NewActor("partner", func(context.Context, rt.None) (*partner, error) { return &partner{}, nil })
	Knows   = rt.NewMethod(Partner, "Knows", (*partner).Knows)
	Second  = rt.NewMethod(Partner, "Second", (*partner).Second)
	Third   = rt.NewMethod(Partner, "Third", (*partner).Third)
	First   *rt.Method[*partner, string, string]
)

func init() { First = rt.NewMethod(Partner, "First", (*partner).First) } // its body names Second

func (p *partner) Knows(_ context.Context, other rt.Handle[*partner]) (bool, error) {
	p.other = other
	return true, nil
}

func (p *partner) Second(ctx context.Context, _ rt.None) (int, error) {
	return Third.Remote(ctx, p.other, rt.None{}).Get(ctx)
}

func (p *partner) Third(context.Context, rt.None) (int, error) { return 3, nil }

// longer is more than it takes to find a circle.
const longer = 3500 * time.Millisecond

// First waits for the second in one of several ways.
func (p *partner) First(ctx context.Context, how string) (string, error) {
	second := Second.Remote(ctx, p.other, rt.None{})
	late := time.NewTimer(longer)
	defer late.Stop()
	switch how {
	case "wait":
		if _, _, err := rt.Wait(ctx, []*rt.Ref[int]{second, second}, 2); err != nil {
			return "", err
		}
	case "beside a goroutine":
		go slowInt.Remote(ctx, 1).Get(ctx)
	case "timeout":
		short, cancel := context.WithTimeout(ctx, longer)
		defer cancel()
		if _, err := second.Get(short); !errors.Is(err, context.DeadlineExceeded) {
			return "", err
		}
		return "went on", nil
	case "cancel":
		mine, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			<-late.C
			cancel()
		}()
		if _, err := second.Get(mine); !errors.Is(err, context.Canceled) {
			return "", err
		}
		return "went on", nil
	case "goroutine":
		failed := make(chan error, 1)
		go func() {
			_, err := second.Get(ctx)
			failed <- err
		}()
		select {
		case <-late.C:
			return "went on", nil
		case err := <-failed:
			return "", err
		}
	}
	_, err := second.Get(ctx)
	return "", err
}

// Actors that wait for each other are told so, with the names of all that wait; unless one of them may go on in another way, and does.
func TestActorsInACircle(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	cases := []struct {
		how    string
		circle bool
	}{{"get", true}, {"wait", true}, {"beside a goroutine", true}, {"timeout", false}, {"cancel", false}, {"goroutine", false}}
	ends := make([]*rt.Ref[string], len(cases))
	for i, k := range cases {
		a, b := Partner.Remote(ctx, rt.None{}), Partner.Remote(ctx, rt.None{})
		must[bool](t)(Knows.Remote(ctx, a, b).Get(ctx))
		must[bool](t)(Knows.Remote(ctx, b, a).Get(ctx))
		ends[i] = First.Remote(t.Context(), a, k.how) // without a deadline, which would end it
		defer a.Release()
		defer b.Release()
	}
	for i, k := range cases {
		v, err := ends[i].Get(ctx)
		switch {
		case !k.circle && (err != nil || v != "went on"):
			t.Errorf("%s: %q, %v", k.how, v, err)
		case k.circle && (err == nil || !strings.Contains(err.Error(), "it can never start")):
			t.Errorf("%s: %q, %v", k.how, v, err)
		case k.circle:
			contains(t, err, "First", "Second", "Third")
		}
	}
}
