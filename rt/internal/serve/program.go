package serve

import (
	"context"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Arg is an argument as it came.
type Arg struct {
	Format fb.Format
	Bytes  []byte
}

// Func runs one function or method with an argument. self is the actor, nil for functions.
type Func func(ctx context.Context, self any, arg Arg) (session.Encoded, error)

// Stream runs one function that gives several results, or any number, each by give; an error of that ends it, and is to be returned.
type Stream func(ctx context.Context, arg Arg, give func(session.Encoded) error) error

// Class makes an actor and has its methods.
type Class struct {
	Make    func(ctx context.Context, arg Arg) (any, error)
	Methods map[string]Func
}

// Program is what the user's code has declared. Its tables don't change once a worker serves.
type Program struct {
	Build   string
	Hash    [32]byte
	Funcs   map[string]Func
	Streams map[string]Stream
	Classes map[string]*Class
	// Causes names the registered errors that err is, for the other side's errors.Is.
	Causes func(err error) string
	// Up is called with the session before work begins.
	Up func(*session.Session)
}
