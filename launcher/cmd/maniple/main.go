// Command maniple is the whole product in one binary: the command line, and under it the processes of
// a node (keeper, head, agent).
package main

import (
	"os"
	"runtime"

	"github.com/maniple-hpc/maniple/launcher/cli"
)

// The keeper forks programs that die with the thread that forked them: it needs the main thread, and
// only init still runs there for certain.
func init() {
	if len(os.Args) > 1 && (os.Args[1] == "keeper" || os.Args[1] == "yarn-node") {
		runtime.LockOSThread()
	}
}

func main() {
	if code, ok := cli.Daemon(os.Args[1:]); ok {
		os.Exit(code)
	}
	os.Exit(cli.Main(os.Args))
}
