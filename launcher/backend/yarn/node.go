package yarn

import (
	"encoding/json"
	"fmt"
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
	st, in, out, err := enterNode()
	if err != nil {
		fmt.Fprintln(os.Stderr, "maniple:", err)
		return 1
	}
	os.Stdin, os.Stdout = in, out
	code := keeper.Main([]string{"--head=no"})
	_ = out.Close()
	select { // its last words
	case <-st.keeperOver:
	case <-time.After(time.Second):
	}
	return code
}

// enterNode connects to the master and gives the keeper's two streams.
func enterNode() (st *station, stdin, stdout *os.File, err error) {
	var b boot
	if _, err := unpack(os.Getenv("HADOOP_TOKEN_FILE_LOCATION"), bootSecret, &b); err != nil {
		return nil, nil, nil, err
	}
	if b.Version != jobVersion {
		return nil, nil, nil, fmt.Errorf("yarn: the master speaks version %d, this program %d", b.Version, jobVersion)
	}
	here, err := os.Getwd()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("yarn: the container's folder: %w", err)
	}
	b.Doc.Base, b.Doc.Node.Disks = folder(here), disks(os.Getenv)
	if b.Doc.Journal = ""; !b.Last {
		b.Doc.Patience = orphanTime // the end of the keeper's input is sooner
	}
	b.Doc.Node.Dir, b.Doc.Node.Env = here, append(own(os.Environ()), bootdoc.DirVariable+"="+here)
	if b.Doc.Store == 0 {
		b.Doc.Store = storeShare(os.Getenv("HADOOP_CONF_DIR"), b.Doc.Node.Memory, b.Doc.Node.CPUs)
	}
	document, err := json.Marshal(b.Doc)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("yarn: boot document: %w", err)
	}
	if st, err = newStation(b, os.Getenv("CONTAINER_ID"), here); err != nil {
		return nil, nil, nil, err
	}
	first, ok := st.next(dialTime)
	if !ok {
		return nil, nil, nil, fmt.Errorf("yarn: the master at %s does not answer, and no other one came", strings.Join(b.Master, ", "))
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("yarn: %w", err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("yarn: %w", err)
	}
	// Both end with the process. When there is no master any more the keeper's input ends (YJOB-5).
	st.toKeeper = inW
	go func() {
		_, _ = inW.Write(append(document, '\n'))
		st.run(first)
	}()
	go st.fromKeeper(outR)
	return st, inR, outW, nil
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

// storeShare is how much of a node's memory values may take where the NodeManager counts address space: each core's worker may map all of it,
// and the agent's own share is the most. 0, that share, where it does not. That resident memory is counted for each of them is the agent's
// business: it has them let go of pages.
func storeShare(dir string, memory int64, cores int) int64 {
	c, err := conf.Load(dir)
	if err != nil {
		c = conf.New()
	}
	ratio, counted := addressRatio(c)
	if !counted {
		return 0
	}
	workers := int64(max(cores, 1)) + 1
	left := int64(float64(memory)*ratio) - (2*nodeProcesses+workers)*reservedMB<<20/2
	return max(min(left/workers, memory*3/10), minStore)
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
