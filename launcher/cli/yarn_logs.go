package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/launcher/hdfs"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
	"github.com/maniple-hpc/maniple/yarn/logs"
)

const (
	keptWait = 20 * time.Second // for NodeManagers to bring together what an application that has just ended wrote
	keptPoll = 500 * time.Millisecond
	keptJust = time.Minute
)

// keptLog shows the output of an application that is over, as YARN keeps it: what its masters wrote, one after the other. An interrupt is the end
// wherever that is: what is read of a network and written to a pager hears of none.
func (c *call) keptLog(client *site, r yarn.Report) error {
	if r.Unmanaged {
		c.say("logs: %s printed where `maniple submit --client` was written, and YARN has nothing of it", r.ID)
		return nil
	}
	ctx, sigs := watchSignals(c.ctx)
	defer sigs.stop()
	shown := make(chan error, 1)
	go func() { shown <- c.showKept(ctx, client.conf, r) }() // ends by itself, or with the process
	select {
	case err := <-shown:
		return err
	case <-ctx.Done():
		return exitOf(ctx)
	}
}

// showKept shows it.
func (c *call) showKept(ctx context.Context, conf *conf.Conf, r yarn.Report) error {
	folders, on := logs.Where(conf, r.User, r.ID)
	k := &kept{came: func() {}, folders: folders, getenv: c.getenv, base: conf.Get("fs.defaultFS"), to: &guarded{to: c.stdout}, messages: &guarded{to: c.stderr}}
	defer k.close()
	until := time.Now()
	if time.Since(r.Finished) < keptJust {
		until = until.Add(keptWait)
	}
	defer func() { k.came() }()
	last, shown := max(r.Attempt.Number, 1), false
	for n := int32(1); n <= last; n++ {
		k.came = c.expects(strings.Join(folders, " and ") + " to be read")
		for try := 0; ; try++ {
			err := k.show(n)
			if err == nil {
				shown = true
				break
			}
			if try == 0 { // there is somebody who answers
				k.came()
				k.came = c.expects(fmt.Sprintf("NodeManagers to bring together what %s wrote, until %s at the latest", r.ID, until.Format(time.TimeOnly)))
			}
			early := errors.Is(err, logs.ErrFormat) // an indexed file has its name before all of it is there
			if late := time.Now().After(until); !errors.Is(err, fs.ErrNotExist) && (late || !early) {
				return unread(k, r.ID, err)
			} else if late {
				if n < last || shown { // its machine was lost, say
					c.say("logs: YARN has no log of attempt %d of %s", n, r.ID)
					break
				}
				return noneKept(r, folders, on, n)
			}
			if !pause(ctx, keptPoll) {
				return exitOf(ctx)
			}
		}
		k.came()
	}
	return nil
}

// unread says why not all of an application's logs is shown: it is either side's doing.
func unread(k *kept, id yarn.ApplicationID, err error) *Fault {
	if cannot := cmp.Or(k.to.err, k.messages.err); cannot != nil {
		return &Fault{Name: "CANNOT_CREATE", What: "logs", Why: plain(cannot), Do: "free some space, or write elsewhere", Err: cannot}
	}
	return &Fault{Name: "UNREACHABLE", What: "logs", Why: plain(err), Do: "`yarn logs -applicationId " + id.String() + "` reads it, too", Err: err}
}

// noneKept says that there is no log of an attempt.
func noneKept(r yarn.Report, folders []string, on bool, attempt int32) error {
	why, do := fmt.Sprintf("%s is %s, and YARN has no log of its attempt %d in %s", r.ID, r.State, attempt, strings.Join(folders, " or ")), "it may be too old, or have ended before its master ran: `maniple explain` says how it ended"
	if !on {
		do = "the site's configuration does not say that logs are kept (yarn.log-aggregation-enable): they are on the nodes"
	}
	return &Fault{Name: "NO_CLUSTER", What: "logs", Why: why, Do: do}
}

// pause waits; false: until ctx was over.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// kept are the files that YARN has of an application.
type kept struct {
	folders      []string
	base         string // the file system of folders that name none
	getenv       func(string) string
	to, messages *guarded
	came         func() // what is looked for is there: called before it is shown

	client *hdfs.Client // nil: not yet
	server string
}

func (k *kept) close() {
	if k.client != nil {
		k.client.Close()
	}
}

// at gives a folder's file system, nil for this machine's, and its path there.
func (k *kept) at(folder string) (*hdfs.Client, string, error) {
	if !strings.Contains(folder, ":/") {
		folder = strings.TrimSuffix(k.base, "/") + folder
	}
	if rest, is := strings.CutPrefix(folder, "file:"); is || strings.HasPrefix(folder, "/") {
		return nil, path.Clean("/" + strings.TrimLeft(rest, "/")), nil
	}
	rest, is := strings.CutPrefix(folder, "hdfs://")
	if !is {
		return nil, "", fmt.Errorf("the logs are in %s, and only HDFS is read here", folder)
	}
	server, below, _ := strings.Cut(rest, "/")
	if k.client == nil || k.server != server {
		k.close()
		var err error
		if k.client, err = hdfs.New("hdfs://"+server, k.getenv); err != nil {
			return nil, "", err
		}
		k.server = server
	}
	return k.client, "/" + below, nil
}

// show writes what the master of an attempt wrote; fs.ErrNotExist: it is not there, or not yet.
func (k *kept) show(attempt int32) error {
	missing := error(fs.ErrNotExist)
	for _, folder := range k.folders {
		client, at, err := k.at(folder)
		if err != nil {
			return err
		}
		names, err := namesIn(client, at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, "-checksum") { // its NodeManager is at it
				continue
			}
			found, err := k.showFile(client, path.Join(at, name), attempt)
			if !found && errors.Is(err, logs.ErrFormat) { // it may be in another one
				missing = err
				continue
			}
			if found || err != nil {
				return err
			}
		}
	}
	return missing
}

func namesIn(client *hdfs.Client, at string) (names []string, err error) {
	if client != nil {
		return client.Names(at)
	}
	entries, err := os.ReadDir(at)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// errShown ends the reading of a file of which the rest is not wanted.
var errShown = errors.New("all that is wanted was shown")

// showFile writes what a NodeManager's file has of an attempt's master: the first container that the attempt had.
func (k *kept) showFile(client *hdfs.Client, at string, attempt int32) (found bool, err error) {
	var r hdfs.File
	if client != nil {
		r, err = client.Open(at)
	} else {
		r, err = openLocal(at)
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	size, err := r.Size()
	if err != nil {
		return false, err
	}
	f, err := logs.Open(r, size)
	if err != nil {
		return false, fmt.Errorf("%s: %w", at, err)
	}
	err = f.Each(func(l logs.Log) error {
		if !l.Container.First() || l.Container.Attempt.Number != attempt {
			if found {
				return errShown
			}
			return nil
		}
		if !found {
			found = true
			k.came()
		}
		switch l.Name {
		case "stdout":
			_, err := io.Copy(k.to, l)
			return err
		case "stderr":
			_, err := io.Copy(k.messages, l)
			return err
		}
		return nil
	})
	if errors.Is(err, errShown) {
		err = nil
	}
	return found, err
}

// localFile is a file of this machine.
type localFile struct{ *os.File }

// openLocal opens one.
func openLocal(at string) (hdfs.File, error) {
	f, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	return localFile{f}, nil
}

// Size is how large it is.
func (f localFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
