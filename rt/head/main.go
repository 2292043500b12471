package head

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/head/journal"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// keeperFD is the socket that the keeper leaves its children.
const keeperFD = 3

// Exit codes of the process. With 0 the cluster is over; with any other the keeper starts another head,
// unless it was told to stop.
const (
	exitOver       = 0
	exitKeeperGone = 4
	exitUsage      = 64
	exitBug        = 70
)

// Main is `maniple head`, which only a keeper starts. build is the version of the binary.
func Main(args []string, build string) int {
	if len(args) > 0 {
		fmt.Fprintf(os.Stderr, "maniple: head: it takes no arguments; a keeper starts it\n")
		return exitUsage
	}
	// The step's signals reach every process of it; what they mean is the keeper's to say.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), 4)) // the programs want the cores
	debug.SetGCPercent(200)                           // of little: else a small heap is collected with every other large group
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	code, err := run(context.Background(), os.NewFile(keeperFD, "keeper"), build, log)
	if err != nil {
		log.Error("ended", "error", err)
	}
	return code
}

// run serves a cluster until its core says Exit or the keeper is gone.
func run(ctx context.Context, f *os.File, build string, log *slog.Logger) (int, error) {
	keeper, err := uds.NewFDConn(f)
	if err != nil {
		return exitBug, fmt.Errorf("head: no keeper on descriptor %d: %w", keeperFD, err)
	}
	defer keeper.Close()
	l, err := prepare(ctx, keeper, build, log)
	if errors.Is(err, io.EOF) {
		return exitKeeperGone, errors.New("head: the keeper is gone")
	}
	if err != nil {
		// Another head would find the same: the cluster can't go on.
		_ = keeper.Send(&fb.KeeperStopT{Code: stopCode(err), Reason: err.Error()}, 0, nil)
		return exitBug, err
	}
	defer l.ring.close()
	defer l.journal.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.goes(func() { l.readKeeper(ctx) })
	exit, err := l.run(ctx)
	if errors.Is(err, errKeeperGone) && !l.successor {
		l.farewell()
	}
	cancel()
	for _, m := range l.members {
		m.drop(errEnds)
	}
	_ = keeper.SetReadDeadline(aLongTimeAgo)
	l.wait.Wait()
	if err != nil {
		return exitKeeperGone, err
	}
	log.Info("the cluster is over", "code", exit.Code, "reason", exit.Reason)
	if err := keeper.Send(&fb.KeeperStopT{Code: exit.Code, Reason: exit.Reason}, 0, nil); err != nil {
		return exitKeeperGone, fmt.Errorf("head: %w", err)
	}
	return exitOver, nil
}

// stopCode is the exit code that an error at the start deserves.
func stopCode(err error) int32 {
	if errors.Is(err, journal.ErrFull) {
		return codeCannotCreate
	}
	return exitBug
}

// prepare reads the keeper's configuration and the journal, and begins a term.
func prepare(ctx context.Context, keeper *uds.FDConn, build string, log *slog.Logger) (*loop, error) {
	first, files, err := keeper.Recv()
	closeAll(files)
	if err != nil {
		return nil, fmt.Errorf("head: the keeper's configuration: %w", err)
	}
	kc, ok := first.M.(*fb.KeeperConfigT)
	if !ok {
		return nil, fmt.Errorf("head: the keeper began with %s, not its configuration", wire.TypeOf(first.M))
	}
	doc, err := bootdoc.Parse([]byte(kc.Boot))
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	authority, err := tcp.NewAuthority(doc.Cluster, doc.Secret)
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	cred, err := authority.Credential(fb.RoleHead)
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	name, err := doc.NodeName()
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	cfg := ConfigOf(doc, build)
	var opt journal.Options
	path := filepath.Join(kc.NodeDir, bootdoc.JournalName)
	if doc.Journal != "" {
		c, took, err := copyJournal(ctx, doc.Journal, path)
		if err != nil {
			return nil, err
		}
		opt.Copy = c.Copy
		if took {
			cfg.Instead = name
		}
	}
	l := newLoop(New(cfg), keeper, cred, bootdoc.Clock(name, os.Getenv), log)
	l.name, l.successor = name, doc.Journal != ""
	if err := l.openJournal(path, opt); err != nil {
		return nil, err
	}
	l.ring = openRing(filepath.Join(kc.NodeDir, RingName))
	opened, err := l.core.Open(l.now(), nil)
	if err != nil {
		_ = l.journal.Close()
		return nil, err
	}
	l.effects = opened
	if err := l.commit(); err != nil {
		_ = l.journal.Close()
		return nil, fmt.Errorf("head: %w", err)
	}
	l.carryOut(ctx)
	log.Info("serving", "cluster", doc.Name, "term", l.core.Term(), "build", build)
	if err := keeper.Send(&fb.KeeperReadyT{Role: fb.RoleHead, Text: fmt.Sprintf("term %d", l.core.Term())}, 0, nil); err != nil {
		_ = l.journal.Close()
		return nil, fmt.Errorf("head: %w", err)
	}
	return l, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
