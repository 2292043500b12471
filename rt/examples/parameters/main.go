// Command parameters trains a line through points: an actor keeps the weights, and tasks that hold a handle of it add
// their gradients.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/maniple-hpc/maniple/rt"
)

type server struct{ weights []float64 }

func newServer(_ context.Context, size int) (*server, error) {
	return &server{make([]float64, size)}, nil
}

func (s *server) Add(_ context.Context, g []float64) (int, error) {
	for i := range g {
		s.weights[i] += g[i]
	}
	return len(g), nil
}

func (s *server) Weights(_ context.Context, _ rt.None) ([]float64, error) { return s.weights, nil }

var (
	Server  = rt.NewActor("server", newServer)
	Add     = rt.NewMethod(Server, "Add", (*server).Add)
	Weights = rt.NewMethod(Server, "Weights", (*server).Weights)
	step    = rt.NewFunc("step", func(ctx context.Context, s rt.Handle[*server]) (int, error) {
		w, err := Weights.Remote(ctx, s, rt.None{}).Get(ctx)
		if err != nil {
			return 0, err
		}
		return Add.Remote(ctx, s, gradient(w)).Get(ctx)
	})
)

// gradient is that of the squared distance to y = 3x + 2, at points that chance picks, times half.
func gradient(w []float64) []float64 {
	g := make([]float64, 2)
	for range 100 {
		x := rand.Float64()
		off := w[0]*x + w[1] - (3*x + 2)
		g[0] -= off * x / 200
		g[1] -= off / 200
	}
	return g
}

func main() {
	ctx := context.Background()
	client, err := rt.Init(ctx, rt.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	s := Server.Remote(ctx, 2)
	for range 150 {
		steps := []*rt.Ref[int]{step.Remote(ctx, s), step.Remote(ctx, s)}
		if _, err := rt.GetAll(ctx, steps); err != nil {
			log.Fatal(err)
		}
	}
	w, err := Weights.Remote(ctx, s, rt.None{}).Get(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("y = %.1fx + %.1f\n", w[0], w[1])
}
