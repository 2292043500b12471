package logs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/conf"
)

// Log is one file of a container's log directory. It is read while Each calls with it.
type Log struct {
	Container yarn.ContainerID
	Name      string // as the container's command called it: stdout, stderr, prelaunch.out
	Size      int64
	io.Reader
}

// Each calls do with each log of the file. What do leaves unread is passed over; its error ends it.
func (f *File) Each(do func(Log) error) error {
	return f.records(func(key []byte, value io.Reader) error {
		name, err := utf(bufio.NewReader(strings.NewReader(string(key))))
		if err != nil {
			return fmt.Errorf("logs: a record's key: %w", whole(err))
		}
		container, err := yarn.ParseContainerID(name)
		if err != nil { // VERSION, APPLICATION_OWNER, APPLICATION_ACL
			return nil
		}
		in := bufio.NewReader(value)
		for {
			if _, err := in.Peek(1); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("logs: %s: %w", container, err)
			}
			name, err := utf(in)
			var length string
			if err == nil {
				length, err = utf(in)
			}
			if err != nil {
				return fmt.Errorf("logs: %s: %w", container, whole(err))
			}
			size, err := strconv.ParseInt(length, 10, 64)
			if err != nil || size < 0 {
				return fmt.Errorf("logs: %s: %.100q has %.40q bytes", container, name, length)
			}
			rest := &io.LimitedReader{R: in, N: size}
			if err := do(Log{container, name, size, rest}); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, rest); err != nil || rest.N > 0 {
				return fmt.Errorf("logs: %s: %.100q was cut off: %d of its %d bytes are missing", container, name, rest.N, size)
			}
		}
	})
}

// utf reads a text as Java's DataOutput writes one, whose characters here are ASCII: names of files and numbers.
func utf(in *bufio.Reader) (string, error) {
	var length [2]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return "", err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(in, b)
	return string(b), err
}

// Where gives the folders in which the files of an application may be, the likeliest first: Hadoop 3.3 made folders of a hundred hundred of them. false: log
// aggregation is off.
func Where(c *conf.Conf, user string, id yarn.ApplicationID) (folders []string, on bool) {
	root, suffix := c.Get("yarn.nodemanager.remote-app-log-dir"), c.Get("yarn.nodemanager.remote-app-log-dir-suffix")
	if own := c.Get("yarn.log-aggregation.TFile.remote-app-log-dir"); own != "" {
		root = own
	}
	if own := c.Get("yarn.log-aggregation.TFile.remote-app-log-dir-suffix"); own != "" {
		suffix = own
	}
	if suffix == "" {
		suffix = "logs"
	}
	join := func(rest ...string) string {
		scheme, at, found := strings.Cut(root, "://")
		if !found {
			return path.Join(append([]string{root}, rest...)...)
		}
		return scheme + "://" + path.Join(append([]string{at}, rest...)...)
	}
	bucket := fmt.Sprintf("%04d", id.Number%10000)
	return []string{
		join(user, "bucket-"+suffix+"-tfile", bucket, id.String()),
		join(user, suffix, id.String()),
	}, c.Bool("yarn.log-aggregation-enable", false)
}
