package logs

import (
	"bufio"
	"cmp"
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

// File is an aggregated file.
type File struct {
	format interface {
		each(do func(Log) error) error
	}
}

// Open reads a file's index. size is that of the file.
func Open(r io.ReaderAt, size int64) (*File, error) {
	t, err := openTFile(r, size)
	if err != nil {
		return nil, err
	}
	if t != nil {
		return &File{t}, nil
	}
	i, err := openIndexed(r, size)
	if err != nil {
		return nil, err
	}
	if i != nil {
		return &File{i}, nil
	}
	return nil, fmt.Errorf("logs: %d bytes %w", size, ErrFormat)
}

// ErrFormat: a file is in no known format, or not all of it is there yet: the end of one tells.
var ErrFormat = errors.New("are no whole aggregated file in one of the formats TFile and IndexedFile (yarn.log-aggregation.file-formats); `yarn logs` may know it")

// Each calls do with each log of the file. What do leaves unread is passed over; its error ends it.
func (f *File) Each(do func(Log) error) error { return f.format.each(do) }

// each reads a TFile: a record is a container, and its value the container's logs.
func (f *tfile) each(do func(Log) error) error {
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
			if err := handed(container, name, size, in, do); err != nil {
				return err
			}
		}
	})
}

// handed calls do with a log, and reads what it left.
func handed(container yarn.ContainerID, name string, size int64, in io.Reader, do func(Log) error) error {
	rest := &io.LimitedReader{R: in, N: size}
	if err := do(Log{container, name, size, rest}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, rest); err != nil || rest.N > 0 {
		return fmt.Errorf("logs: %s: %.100q was cut off: %d of its %d bytes are missing", container, name, rest.N, size)
	}
	return nil
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

// Where gives the folders in which the files of an application may be, the likeliest first: each format has its own, and Hadoop 3.3 made folders of a hundred
// hundred of them. false: log aggregation is off.
func Where(c *conf.Conf, user string, id yarn.ApplicationID) (folders []string, on bool) {
	formats := c.Strings("yarn.log-aggregation.file-formats")
	if len(formats) == 0 {
		formats = []string{formatTFile}
	}
	bucket := fmt.Sprintf("%04d", id.Number%10000)
	for _, format := range formats {
		of := "yarn.log-aggregation." + format + "."
		root := cmp.Or(c.Get(of+"remote-app-log-dir"), c.Get("yarn.nodemanager.remote-app-log-dir"))
		suffix, older := c.Get(of+"remote-app-log-dir-suffix"), c.Get(of+"remote-app-log-dir-suffix")
		if suffix == "" {
			older = cmp.Or(c.Get("yarn.nodemanager.remote-app-log-dir-suffix"), "logs")
			suffix = older + "-" + strings.ToLower(format)
			if format != formatTFile {
				older += "-ifile"
			}
		}
		folders = append(folders, below(root, user, "bucket-"+suffix, bucket, id.String()), below(root, user, older, id.String()))
	}
	return folders, c.Bool("yarn.log-aggregation-enable", false)
}

// formatTFile is what Hadoop calls that format.
const formatTFile = "TFile"

// below joins names to a folder that may be a URI.
func below(root string, rest ...string) string {
	scheme, at, found := strings.Cut(root, "://")
	if !found {
		return path.Join(append([]string{root}, rest...)...)
	}
	return scheme + "://" + path.Join(append([]string{at}, rest...)...)
}
