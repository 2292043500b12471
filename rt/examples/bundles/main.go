// Command bundles reserves two bundles of one CPU each, both or none, and has an actor live on each.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/maniple-hpc/maniple/rt"
)

type place struct{}

func (*place) Where(_ context.Context, _ rt.None) (string, error) {
	return fmt.Sprintf("an actor in process %d", os.Getpid()), nil
}

var (
	Place = rt.NewActor("place", func(context.Context, rt.None) (*place, error) { return &place{}, nil })
	Where = rt.NewMethod(Place, "Where", (*place).Where)
)

func main() {
	client, err := rt.Init(context.Background(), rt.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Print(err)
	}
}

func run(ctx context.Context) error {
	group, err := rt.NewGroup(ctx, rt.StrictPack, rt.Bundle{"CPU": 1}, rt.Bundle{"CPU": 1})
	if err != nil {
		return err // can never be: says why
	}
	defer group.Remove(ctx)
	if err := group.Ready(ctx); err != nil {
		return err // not in time: says who holds what
	}
	var handles []rt.Handle[*place]
	for i := range group.Bundles() {
		handles = append(handles, Place.Remote(ctx, rt.None{}, rt.InGroup(group, i)))
	}
	for _, h := range handles {
		where, err := Where.Remote(ctx, h, rt.None{}).Get(ctx)
		if err != nil {
			return err
		}
		fmt.Println(where)
	}
	return nil
}
