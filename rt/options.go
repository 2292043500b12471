package rt

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Option says how one task, actor or call of a method is treated. One that does not fit is an error of its Get.
type Option struct {
	name string
	fits []purpose
	set  func(*settings) error
}

// purpose is what options are for.
type purpose string

const (
	forTask  purpose = "tasks"
	forActor purpose = "actors"
	forCall  purpose = "calls of methods"
)

// settings are options put together.
type settings struct {
	resources   map[string]float64
	retries     int32
	retryErrors bool
	node        string
	group       id.Task
	bundle      int32
	env         map[string]string
	name        string
	namespace   string
	detached    bool
	concurrency uint32
	restarts    int32
	pending     int32
}

const unit = 10_000 // of amounts on the wire

// CPUs is how many CPUs a task (default 1) or an actor (default 0) takes; it need not be whole.
func CPUs(n float64) Option { return resource("CPUs", "CPU", n) }

// GPUs is how many GPUs; the process sees these and no others. It is whole, or under 1.
func GPUs(n float64) Option { return resource("GPUs", "GPU", n) }

// Memory is how many bytes are reserved. Nothing enforces it.
func Memory(bytes int64) Option { return resource("Memory", "memory", float64(bytes)) }

func resource(option, name string, n float64) Option {
	return Option{option, []purpose{forTask, forActor}, func(s *settings) error { return s.resource(name, n) }}
}

// Resources are amounts by name, of what nodes are said to have.
func Resources(amounts map[string]float64) Option {
	return Option{"Resources", []purpose{forTask, forActor}, func(s *settings) error {
		for _, name := range slices.Sorted(maps.Keys(amounts)) {
			if err := s.resource(name, amounts[name]); err != nil {
				return err
			}
		}
		return nil
	}}
}

func (s *settings) resource(name string, n float64) error {
	if name == "" || math.IsNaN(n) || n < 0 || n > math.MaxInt64/unit/2 {
		return fmt.Errorf("%v of %q is no amount", n, name)
	}
	if n > 0 && n*unit < 1 {
		return fmt.Errorf("%v of %q is finer than 0.0001", n, name)
	}
	if name == "GPU" && n > 1 && n != math.Trunc(n) {
		return fmt.Errorf("%v GPUs: more than one are whole ones", n)
	}
	s.resources[name] = n
	return nil
}

// Retries is how often a task (default 3) or an actor's calls (default 0) are tried again when their process dies;
// -1 is without bound.
func Retries(n int) Option {
	return Option{"Retries", []purpose{forTask, forActor, forCall}, func(s *settings) error { return count(&s.retries, n) }}
}

// RetryErrors has a task tried again, within its Retries, also when it returns an error.
func RetryErrors() Option {
	return Option{"RetryErrors", []purpose{forTask, forCall}, func(s *settings) error { s.retryErrors = true; return nil }}
}

// Restarts is how often an actor is made again when its process dies (default 0); -1 is without bound.
func Restarts(n int) Option {
	return Option{"Restarts", []purpose{forActor}, func(s *settings) error { return count(&s.restarts, n) }}
}

// MaxPending is how many calls of one process may wait at an actor (default: any number); 0 and -1 are without bound.
func MaxPending(n int) Option {
	return Option{"MaxPending", []purpose{forActor}, func(s *settings) error {
		if n == 0 {
			n = -1
		}
		return count(&s.pending, n)
	}}
}

func count(into *int32, n int) error {
	if n < -1 || n > math.MaxInt32 {
		return fmt.Errorf("%d is no count", n)
	}
	*into = int32(n)
	return nil
}

// Concurrency is how many calls of an actor run at a time (default 1). With more than one, their order is not kept.
func Concurrency(n int) Option {
	return Option{"Concurrency", []purpose{forActor}, func(s *settings) error {
		if n < 1 || n > 1<<20 {
			return fmt.Errorf("%d is no number of calls", n)
		}
		s.concurrency = uint32(n)
		return nil
	}}
}

// OnNode is the node, by its name, on which a task or an actor is to run.
func OnNode(name string) Option {
	return Option{"OnNode", []purpose{forTask, forActor}, func(s *settings) error { s.node = name; return nil }}
}

// InGroup has a task or an actor run on a bundle of a group, -1: any of them.
func InGroup(g *Group, bundle int) Option {
	return Option{"InGroup", []purpose{forTask, forActor}, func(s *settings) error {
		if g == nil || bundle < -1 || bundle >= g.n {
			return fmt.Errorf("the group has no bundle %d", bundle)
		}
		s.group, s.bundle = g.id, int32(bundle)
		return nil
	}}
}

// Env adds variables to the environment of the process.
func Env(vars map[string]string) Option {
	return Option{"Env", []purpose{forTask, forActor}, func(s *settings) error {
		for _, name := range slices.Sorted(maps.Keys(vars)) {
			if name == "" || strings.Contains(name, "=") || strings.Contains(name+vars[name], "\x00") {
				return fmt.Errorf("no environment has %q", name)
			}
		}
		s.env = vars
		return nil
	}}
}

// Name is what GetActor finds an actor by, and what messages call a task.
func Name(name string) Option {
	return Option{"Name", []purpose{forTask, forActor}, func(s *settings) error {
		if name == "" {
			return fmt.Errorf("a name is not empty")
		}
		s.name = name
		return nil
	}}
}

// Namespace is where an actor's name is known (default: the program's own).
func Namespace(name string) Option {
	return Option{"Namespace", []purpose{forActor}, func(s *settings) error { s.namespace = name; return nil }}
}

// Detached lets an actor live on without its driver, until it is killed.
func Detached() Option {
	return Option{"Detached", []purpose{forActor}, func(s *settings) error { s.detached = true; return nil }}
}

// settle puts options together.
func (p purpose) settle(options []Option) (*settings, error) {
	s := &settings{bundle: -1, pending: -1, resources: map[string]float64{}}
	if p == forTask {
		s.resources["CPU"] = 1
		s.retries = 3
	}
	for _, o := range options {
		if !slices.Contains(o.fits, p) {
			return nil, &session.Fault{Code: session.CodeOption, Message: fmt.Sprintf("%s is no option of %s", o.name, p)}
		}
		if err := o.set(s); err != nil {
			return nil, &session.Fault{Code: session.CodeOption, Message: o.name + ": " + err.Error()}
		}
	}
	return s, nil
}

// shape gives the shape that options make, until it is done with.
func (p purpose) shape(c *session.Session, options []Option) (*session.Shape, error) {
	if len(options) == 0 && p != forActor {
		return c.Shape(string(p), p.standard)
	}
	s, err := p.settle(options)
	if err != nil {
		return nil, err
	}
	return p.shapeOf(c, s)
}

func (p purpose) standard() *fb.ShapeT {
	s, _ := p.settle(nil) // no option that could fail
	return s.table(p)
}

func (p purpose) shapeOf(c *session.Session, s *settings) (*session.Shape, error) {
	var key strings.Builder
	fmt.Fprintf(&key, "%s %v %d %v %q %v %d %q %v", p, s.resources, s.retries, s.retryErrors, s.node, s.group, s.bundle, s.name, s.env)
	return c.Shape(key.String(), func() *fb.ShapeT { return s.table(p) })
}

func (s *settings) table(p purpose) *fb.ShapeT {
	m := &fb.ShapeT{Retries: s.retries, RetryExceptions: s.retryErrors, Node: s.node, Bundle: s.bundle, Name: s.name}
	if p != forCall {
		for _, name := range slices.Sorted(maps.Keys(s.resources)) {
			m.Resources = append(m.Resources, &fb.ResourceT{Name: name, Amount: int64(math.Round(s.resources[name] * unit))})
		}
	}
	if !s.group.IsZero() {
		m.Group = session.TaskT(s.group)
	}
	if len(s.env) > 0 {
		text, _ := json.Marshal(map[string]any{"env_vars": s.env}) // texts
		m.Environment = string(text)
	}
	return m
}
