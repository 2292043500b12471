package cli

import (
	"fmt"
	"strings"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/launcher/hdfs"
	"github.com/maniple-hpc/maniple/launcher/s3"
	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/head"
	"github.com/maniple-hpc/maniple/rt/keeper"
)

// Daemon runs one of the processes of a node, if that is what args (without the program's name) ask for:
// `maniple keeper`, which launchers start on each node (in a container of YARN as `maniple yarn-node`), and `maniple agent` and `maniple head`, which
// only a keeper starts, and `maniple hdfs-server`, which a program that reads HDFS starts for itself. They are no commands of the user's: no help shows them, and none of the command
// line's machinery is set up for them.
func Daemon(args []string) (code int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case "keeper":
		return keeper.Main(args[1:]), true
	case yarnbackend.NodeCommand:
		return yarnbackend.NodeMain(), true
	case "agent":
		return agent.Main(args[1:], Build(), openSpill), true
	case "hdfs-server":
		return hdfs.Main(), true
	case "head":
		return head.Main(args[1:], Build()), true
	}
	return 0, false
}

// openSpill gives what a directory for values names that is reached by a library of its own.
func openSpill(uri string, getenv func(string) string) (agent.SpillFS, error) {
	switch {
	case strings.HasPrefix(uri, bootdoc.SpillHDFS):
		return hdfs.OpenSpill(uri, getenv)
	case strings.HasPrefix(uri, bootdoc.SpillS3):
		return s3.OpenSpill(uri)
	}
	return nil, fmt.Errorf("%q: only hdfs:// and s3:// are known", uri)
}
