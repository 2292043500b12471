package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	slurmbackend "github.com/maniple-hpc/maniple/launcher/backend/slurm"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

// tcpTimeout is how long a node may take to answer over TCP before srun is tried: a firewall that drops
// packets never answers.
const tcpTimeout = time.Second

// reach finds a way to a cluster that is not on this machine: TCP, or through srun.
func (c *call) reach(ctx context.Context, ep *boot.Endpoint, to gang.Endpoint) (*gang.Client, error) {
	if ep.Kind == "yarn" {
		return c.reachApplication(ctx, ep, to)
	}
	first := ctx
	if ep.Kind == "slurm" {
		var cancel context.CancelFunc
		first, cancel = context.WithTimeout(ctx, tcpTimeout)
		defer cancel()
	}
	client, err := gang.Connect(first, to)
	var refused *gang.RefusedError
	if err == nil || ep.Kind != "slurm" || len(ep.Nodes) == 0 || errors.As(err, &refused) {
		return client, err
	}
	b := &slurmbackend.Backend{Environ: c.environ}
	dial := func(ctx context.Context) (io.ReadWriteCloser, error) {
		return b.Bridge(ctx, ep.Name, ep.Nodes[0], ep.Name)
	}
	ready, err := dial(ctx) // a job that is over is said at once and not tried again
	if err != nil {
		if c.jobOver(ep, err) {
			ep.Remove() // who wrote it was killed
			return nil, fmt.Errorf("job %s does not run any more: %w", ep.Name, boot.ErrNone)
		}
		return nil, err
	}
	to.Addresses = nil
	to.Dial = func(ctx context.Context) (stream io.ReadWriteCloser, err error) {
		if stream, ready = ready, nil; stream != nil {
			return stream, nil
		}
		return dial(ctx)
	}
	return gang.Connect(ctx, to)
}

// jobOver tells whether srun was refused because the cluster's job is over, or back in the queue. Only the
// Slurm that the job belongs to can say so: a home directory may serve several.
func (c *call) jobOver(ep *boot.Endpoint, refused error) bool {
	over := errors.Is(slurm.ErrorOf("bridge", refused.Error()), slurm.ErrNoJob) || textSays(refused, "has expired", "pending execution")
	return over && ep.Site != "" && ep.Site == c.slurmName()
}

// slurmName is what this machine's Slurm calls itself; "" where its configuration is not to be read.
func (c *call) slurmName() string {
	if name := c.getenv("SLURM_CLUSTER_NAME"); name != "" {
		return name
	}
	text, _ := os.ReadFile(cmp.Or(c.getenv("SLURM_CONF"), "/etc/slurm/slurm.conf"))
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.EqualFold(name, "ClusterName") {
			return value
		}
	}
	return ""
}

// bridgeCommand is the far end of a bridge; srun starts it on a node.
func (a *app) bridgeCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "bridge", summary: "carry a connection to this node's agent over standard input and output", hidden: true,
		examples: []string{"maniple bridge --cluster 123\tstarted by srun, not by hand"},
		flags:    []urfave.Flag{clusterFlag()},
		action:   (*call).bridge,
	})
}

func (c *call) bridge() error {
	if err := c.noArgs(); err != nil {
		return err
	}
	ep, err := c.find()
	if err != nil {
		return err
	}
	conn, err := dialSocket(ep.Socket)
	if err != nil {
		return &Fault{Name: "UNREACHABLE", What: "bridge", Why: err.Error(), Do: "its node is gone, or another user's", Err: err}
	}
	defer conn.Close()
	if _, err := slurmbackend.WriteLines(c.stdout, []byte{0}); err != nil {
		return err
	}
	// The input ends with the client; the agent then ends the connection.
	go func() {
		io.Copy(conn, slurmbackend.NewLineReader(c.stdin))
		conn.CloseWrite()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if _, err := slurmbackend.WriteLines(c.stdout, buf[:n]); err != nil {
				return nil // the client is gone
			}
		}
		if err != nil {
			return nil
		}
	}
}

// dialSocket connects to a unix socket of any length of path, through its directory's descriptor.
func dialSocket(path string) (*net.UnixConn, error) {
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	short := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path)
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: short, Net: "unix"})
}
