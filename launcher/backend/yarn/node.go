package yarn

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/keeper"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// dialTime is how long a node looks for its master: a machine that swaps is slow, and one that is gone is noticed
// by YARN.
const dialTime = time.Minute

// ofContainer are the variables that YARN sets for one container, and that mean nothing on another node.
var ofContainer = []string{
	"CONTAINER_ID", "NM_HOST", "NM_PORT", "NM_HTTP_PORT", "LOCAL_DIRS", "LOCAL_USER_DIRS", "LOG_DIRS", "PWD", "HOME", "USER", "LOGNAME",
	"HADOOP_TOKEN_FILE_LOCATION", "HADOOP_CONF_DIR", "HADOOP_HOME", "JAVA_HOME", "JVM_PID", "LOCALIZATION_COUNTERS", "PRELAUNCH_OUT", "PRELAUNCH_ERR",
}

// NodeMain is a node of the application in its container: the keeper, whose standard input and output lead to the
// master. It must be called on the main thread, locked to it.
func NodeMain() int {
	in, out, err := enterNode()
	if err != nil {
		fmt.Fprintln(os.Stderr, "maniple:", err)
		return 1
	}
	os.Stdin, os.Stdout = in, out
	return keeper.Main([]string{"--head=no"})
}

// enterNode connects to the master and gives the keeper's two streams.
func enterNode() (stdin, stdout *os.File, err error) {
	var b boot
	if _, err := unpack(os.Getenv("HADOOP_TOKEN_FILE_LOCATION"), bootSecret, &b); err != nil {
		return nil, nil, err
	}
	if b.Version != jobVersion {
		return nil, nil, fmt.Errorf("yarn: the master speaks version %d, this program %d", b.Version, jobVersion)
	}
	here, err := os.Getwd()
	if err != nil {
		return nil, nil, fmt.Errorf("yarn: the container's folder: %w", err)
	}
	b.Doc.Base, b.Doc.Node.Disks = folder(here), disks(os.Getenv)
	b.Doc.Node.Dir, b.Doc.Node.Env = here, append(own(os.Environ()), bootdoc.DirVariable+"="+here)
	if b.Doc.Store == 0 {
		b.Doc.Store = storeShare(os.Getenv("HADOOP_CONF_DIR"), b.Doc.Node.Memory, b.Doc.Node.CPUs)
	}
	document, err := json.Marshal(b.Doc)
	if err != nil {
		return nil, nil, fmt.Errorf("yarn: boot document: %w", err)
	}
	key, err := keyOf(b.Doc.Cluster, b.Doc.Secret, partyNode)
	if err != nil {
		return nil, nil, err
	}
	master, err := keyOf(b.Doc.Cluster, b.Doc.Secret, partyMaster)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := config(key, master.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	conn, err := dial(ctx, b.Master, cfg, hello{Node: b.Doc.Node.Name})
	for err != nil && ctx.Err() == nil {
		time.Sleep(time.Second)
		conn, err = dial(ctx, b.Master, cfg, hello{Node: b.Doc.Node.Name})
	}
	if err != nil {
		return nil, nil, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("yarn: %w", err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("yarn: %w", err)
	}
	// Both end with the process. The end of the connection is the end of the keeper's input (YJOB-5).
	go func() {
		_, _ = inW.Write(append(document, '\n'))
		_, _ = io.Copy(inW, conn)
		_ = inW.Close()
	}()
	go func() { _, _ = io.Copy(conn, outR) }()
	return inR, outW, nil
}

// folder is where a container's node has its files: in the container's own folder, which YARN removes.
func folder(container string) string { return filepath.Join(container, ".maniple") }

// disks are the container's folders, of which YARN makes one on each of the machine's disks, and removes them.
func disks(getenv func(string) string) (list []string) {
	for _, dir := range strings.Split(getenv("LOCAL_DIRS"), ",") {
		dir = filepath.Join(dir, getenv("CONTAINER_ID"))
		if info, err := os.Stat(dir); err == nil && info.IsDir() && filepath.IsAbs(dir) {
			list = append(list, dir)
		}
	}
	return list
}

// minStore is the least memory for values that is of any use.
const minStore = 16 << 20

// storeShare is how much of a node's memory values may take where the NodeManager counts it as the sum of what its processes
// have mapped: each core's worker may map all of it. 0, the agent's own share, where it counts otherwise.
func storeShare(dir string, memory int64, cores int) int64 {
	c, err := conf.Load(dir)
	if err == nil && (!c.Bool("yarn.nodemanager.pmem-check-enabled", true) || c.Bool("yarn.nodemanager.container-monitor.procfs-tree.smaps-based-rss.enabled", false)) {
		return 0
	}
	return max(memory*3/10/int64(1+max(cores, 1)), minStore)
}

// own is what of an environment is this container's.
func own(environ []string) (list []string) {
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(ofContainer, name) {
			list = append(list, kv)
		}
	}
	return list
}
