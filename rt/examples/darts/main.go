// Command darts estimates pi with tasks: forty of them throw 100,000 darts each.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/maniple-hpc/maniple/rt"
)

var throw = rt.NewFunc("throw", func(ctx context.Context, n int) (int, error) {
	hits := 0
	for range n {
		if x, y := rand.Float64(), rand.Float64(); x*x+y*y <= 1 {
			hits++
		}
	}
	return hits, nil
})

func main() {
	ctx := context.Background()
	client, err := rt.Init(ctx, rt.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	refs := make([]*rt.Ref[int], 40)
	for i := range refs {
		refs[i] = throw.Remote(ctx, 100_000)
	}
	hits, err := rt.GetAll(ctx, refs)
	if err != nil {
		log.Fatal(err)
	}
	sum := 0
	for _, h := range hits {
		sum += h
	}
	fmt.Println(4 * float64(sum) / 4e6)
}
