package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/maniple-hpc/maniple/rt/gang"
)

// interrupted is why a command's context ended: a signal came before the gang was there.
type interrupted struct{ sig syscall.Signal }

func (e *interrupted) Error() string { return fmt.Sprintf("stopped by %v", e.sig) }

// signals turns what the system sends us into a run's interrupts. Before the gang exists, the first one
// cancels the context; hand gives the run the channel. One goroutine, ended by stop.
type signals struct {
	in     chan os.Signal
	out    chan gang.Interrupt
	cancel context.CancelCauseFunc
	done   chan struct{}

	terminated chan struct{} // closed by the first SIGTERM

	mu      sync.Mutex
	running bool
	asked   bool   // to end what runs
	deaf    bool   // to TERM
	termed  func() // called by the first SIGTERM
}

// watched are signals that a command takes before and after its run, too, and the context that they end.
type watched struct {
	*signals
	ctx context.Context
}

func watchSignals(ctx context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &signals{in: make(chan os.Signal, 8), out: make(chan gang.Interrupt, 8), cancel: cancel, done: make(chan struct{}), terminated: make(chan struct{})}
	signal.Notify(s.in, wanted()...)
	go func() {
		defer close(s.done)
		for sig := range s.in {
			s.take(sig.(syscall.Signal))
		}
	}()
	return ctx, s
}

// wanted are the signals that we take. What a terminal sends stays ignored where it was: by nohup, or by the
// shell of a script that started us with &. ABRT stays Go's: it prints what all goroutines do.
func wanted() []os.Signal {
	list := []os.Signal{syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGWINCH}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	if signal.Ignored(syscall.SIGINT) {
		signal.Ignore(syscall.SIGQUIT) // shells ignore both, and Go's runtime takes this one back at its start
		return list
	}
	return append(list, syscall.SIGINT, syscall.SIGQUIT)
}

func (s *signals) take(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sig == syscall.SIGTERM && s.deaf {
		return
	}
	if sig == syscall.SIGTERM {
		select {
		case <-s.terminated:
		default:
			close(s.terminated)
			if s.termed != nil {
				s.termed()
			}
		}
	}
	what := gang.Interrupt(sig)
	s.asked = s.asked || what != gang.Resized
	switch {
	case s.running:
		select {
		case s.out <- what:
		default: // eight are waiting: it knows
		}
	case what != gang.Resized:
		s.cancel(&interrupted{sig})
	}
}

// onTerm has the first SIGTERM told, also if it came already. told must not wait.
func (s *signals) onTerm(told func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.termed = told
	select {
	case <-s.terminated:
		told()
	default:
	}
}

// hand gives the interrupts over to a run.
func (s *signals) hand() <-chan gang.Interrupt {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = true
	return s.out
}

// back takes the interrupts back when the run is over: from now on they cancel the context. It tells
// whether nobody has asked for the end so far.
func (s *signals) back() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	return !s.asked
}

func (s *signals) stop() {
	signal.Stop(s.in)
	close(s.in)
	<-s.done
	s.cancel(nil)
}

// exitOf is the code of a command that was stopped before it began.
func exitOf(ctx context.Context) error {
	if e, ok := context.Cause(ctx).(*interrupted); ok {
		return &Fault{code: gang.Interrupt(e.sig).Code(), silent: true, Err: e}
	}
	return nil
}

// ignoreTerm takes no SIGTERM for a wish that what runs shall end.
func (s *signals) ignoreTerm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = true
}
