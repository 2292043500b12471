package yarn

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// LaunchContext is what starts in a container: files that the NodeManager brings there, an environment, and
// a command.
type LaunchContext struct {
	Files map[string]LocalResource `pb:"1"` // by the name of the link in the container's folder

	// Tokens is Credentials.Marshal of what the container shall find at HADOOP_TOKEN_FILE_LOCATION; nil: nothing.
	// The ResourceManager renews the delegation tokens among an ApplicationMaster's.
	Tokens []byte `pb:"2"`

	ServiceData map[string][]byte `pb:"3"` // for the NodeManager's auxiliary services

	// Environment of the command. {{NAME}} is replaced by the NodeManager's variable; what it is logged by
	// default, so no secret belongs here.
	Environment map[string]string `pb:"4"`

	// Commands are parts of one line of bash, put together with spaces; <LOG_DIR> is replaced by the folder whose
	// files become the container's log.
	Commands []string `pb:"5"`

	ACLs map[Access]string `pb:"6"` // who besides the owner: "user1,user2 group1,group2", or "*"; nil: nobody
}

// Access is a right on an application.
type Access int32

// The rights.
const (
	ViewApplication   Access = 1 // see it and its logs
	ModifyApplication Access = 2 // kill it
)

// LocalResource is a file that a NodeManager brings into a container's folder.
type LocalResource struct {
	URL        URL        `pb:"1,required"`
	Size       int64      `pb:"2,required"` // in bytes
	Timestamp  time.Time  `pb:"3,required"` // the file's modification to the millisecond; another one fails the container with exit code -1000
	Type       FileType   `pb:"4,required"`
	Visibility Visibility `pb:"5,required"`
	Pattern    string     `pb:"6"` // of FilePattern: which parts of the archive are unpacked
}

// FileType says what becomes of a file.
type FileType int32

// The types.
const (
	Archive     FileType = 1 // unpacked: .zip, .tar.gz, .tgz, .tar, .jar
	File        FileType = 2
	FilePattern FileType = 3 // unpacked in part, and the archive kept beside it
)

// Visibility says who shares the NodeManager's copy.
type Visibility int32

// The visibilities.
const (
	Public      Visibility = 1 // every user of the node; the file must be readable to all
	Private     Visibility = 2 // every application of the user
	Application Visibility = 3
)

// URL is where a file lies.
type URL struct {
	Scheme string `pb:"1"`
	Host   string `pb:"2"`
	Port   int32  `pb:"3"`
	Path   string `pb:"4"`
}

// ParseURL reads a URL such as hdfs://namenode:8020/user/a/x or file:///x. Its path is taken as it stands, as Hadoop takes it: %20 and ? are in names there.
func ParseURL(s string) (URL, error) {
	scheme, rest, found := strings.Cut(s, "://")
	host, path, rooted := strings.Cut(rest, "/")
	u, err := url.Parse(scheme + "://" + host)
	if !found || !rooted || err != nil || u.Scheme == "" {
		return URL{}, fmt.Errorf("yarn: %q is no URL of a file; one looks like hdfs://namenode:8020/path", s)
	}
	out := URL{Scheme: u.Scheme, Host: u.Hostname(), Path: "/" + path}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return URL{}, fmt.Errorf("yarn: %q: %q is no port", s, p)
		}
		out.Port = int32(n)
	}
	return out, nil
}

func (u URL) String() string {
	host := u.Host
	if u.Port != 0 {
		host += ":" + strconv.Itoa(int(u.Port))
	}
	return u.Scheme + "://" + host + u.Path
}
