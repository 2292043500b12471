// Package rt is the Go API of the runtime: tasks, actors, objects and groups on the machines of a cluster.
//
// Functions and actors are declared as variables of a package; Init in main connects the program to its cluster. The
// program is its own worker: agents start it again, and there the same call of Init serves and does not return. So
// Init stands before anything with an effect.
//
//	var square = rt.NewFunc("square", func(_ context.Context, n int) (int, error) { return n * n, nil })
//
//	func main() {
//		ctx := context.Background()
//		client, err := rt.Init(ctx, rt.Config{})
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer client.Close()
//		fmt.Println(square.Remote(ctx, 12).Get(ctx))
//	}
//
// The nouns. A [Func] is a function that runs elsewhere, a [Ref] what it, or [Put], will give; [GetRange] gets a part of that, and [Concat] makes one
// object of several. [Cached] gives a value that a node keeps for all its programs. An [Actor] makes objects that live in a process of their own and are called by a [Handle] and a [Method]. A [Group] is bundles of
// resources that are reserved together. A [StreamFunc] gives a [Stream] of results, a [Func2] two. An [Option] says how one call is treated. A [Client] is
// the connection.
//
// Guarantees:
//
//	RT-1: Remote waits for nothing but credit; whatever goes wrong comes out of Get.
//	RT-2: a value that can't be read back whole is an error that names the path to what is wrong.
//	RT-3: a deadline of the context that Remote got is one of the task, and of what the task asks for.
//	RT-4: what nobody refers to any more is given back, by Release or by the garbage collector.
//	RT-5: after Close, or when the process ends by whatever death, nothing of a cluster that Init started is left.
//
// Values are []byte as it is, what has encoding.BinaryMarshaler and BinaryUnmarshaler by that, and all else as CBOR.
//
// All of it may be used by several goroutines at once. Limits are in docs/limits.md.
package rt
