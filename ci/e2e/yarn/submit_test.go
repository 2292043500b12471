//go:build e2e

package yarn

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/maniple-hpc/maniple/ci/e2e"
	hdfsfiles "github.com/maniple-hpc/maniple/launcher/hdfs"
	"github.com/maniple-hpc/maniple/yarn"
)

// gateway is a user's account on a machine with Hadoop's configuration: a home, a folder, our program.
type gateway struct {
	t       *testing.T
	b       *testbed
	binary  string
	home    string
	dir     string
	environ []string // more
}

// built is the folder of what build made; TestMain removes it.
var built string

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "maniple-e2e-yarn-*")
	if err != nil {
		return "", err
	}
	built = dir
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "maniple"), "github.com/maniple-hpc/maniple/launcher/cmd/maniple").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: string(out), Err: err}
	}
	return filepath.Join(dir, "maniple"), nil
})

// accountOn is an account on a testbed.
func accountOn(t *testing.T, b *testbed) *gateway {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return &gateway{t: t, b: b, binary: binary, home: t.TempDir(), dir: t.TempDir()}
}

// gatewayOf gives alice's account, with a folder of her own on HDFS.
func gatewayOf(t *testing.T) *gateway {
	t.Helper()
	return gatewayOn(t, up(t))
}

func gatewayOn(t *testing.T, b *testbed) *gateway {
	t.Helper()
	owner, err := yarn.CurrentUser() // of the NameNode's process, and so above its rules
	if err != nil {
		t.Fatal(err)
	}
	g := accountOn(t, b)
	g.hdfsHome(yarn.Config{User: owner}).Close()
	return g
}

// hdfsHome makes alice's folder on HDFS, as somebody above its rules, whose client it gives.
func (g *gateway) hdfsHome(who yarn.Config) *hdfs.Client {
	g.t.Helper()
	c := g.hdfs(who)
	err := c.MkdirAll("/user/alice", 0o755)
	if err == nil {
		err = errors.Join(c.Chmod("/user", 0o755), c.Chown("/user/alice", "alice", "alice"))
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

// hdfs is somebody's client of the testbed's HDFS.
func (g *gateway) hdfs(who yarn.Config) *hdfs.Client {
	g.t.Helper()
	addresses, _, err := g.b.conf.NameNodes("")
	if err != nil {
		g.t.Fatal(err)
	}
	o, err := hdfsfiles.Options(g.b.conf, who, addresses)
	if err != nil {
		g.t.Fatal(err)
	}
	c, err := hdfs.NewClient(o)
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

// command prepares a command of maniple.
func (g *gateway) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, g.binary, args...)
	cmd.Dir = g.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + g.home, "HADOOP_USER_NAME=alice", "HADOOP_CONF_DIR=" + filepath.Join(g.b.dir, "conf", "rm")}, g.environ...)
	return cmd
}

// run runs one.
func (g *gateway) run(args ...string) e2e.Result {
	g.t.Helper()
	return e2e.Do(g.t, g.command(within(g.t), args...))
}

// write makes a file of the user's.
func (g *gateway) write(name, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o755); err != nil {
		g.t.Fatal(err)
	}
}

// submit submits, and gives the application's ID.
func (g *gateway) submit(args ...string) string {
	g.t.Helper()
	r := g.run(append([]string{"submit", "--on", "yarn", "--parsable"}, args...)...)
	if r.Code != 0 || !strings.HasPrefix(r.Stdout, "application_") {
		g.t.Fatalf("%+v", r)
	}
	return strings.TrimSpace(r.Stdout)
}

// small are the sizes that let several applications fit on two small nodes.
var small = []string{"--mem=128M", "--am-memory=512M"}

// Ranks on two nodes, with the files that they need and none of the secrets; the exit code is the program's.
func TestSubmit(t *testing.T) {
	g := gatewayOf(t)
	g.write("train.sh", "case $MANIPLE_ADDRESS in $PWD/.maniple/*) at=home;; esac; echo \"rank $RANK of $WORLD_SIZE reads $(cat data.txt) $K at $at\"; echo note >&2\ntouch $D/$RANK; until [ -e $D/0 ]; do sleep 0.1; done; [ $RANK = 1 ] && exit 3; sleep 30\n")
	g.write("input.txt", "a file")
	args := append([]string{"submit", "--on", "yarn", "--follow", "-N", "2", "--ntasks-per-node", "1", "--files", "input.txt#data.txt", "--export", "K=value,D=" + g.dir}, small...)
	r := g.run(append(args, "--json", "--", "bash", "train.sh")...)
	if r.Code != 3 {
		t.Fatalf("%+v", r)
	}
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	var first, last struct {
		Event, Reason, State string
		JobID                string `json:"job_id"`
		Code                 int
	}
	if json.Unmarshal([]byte(lines[0]), &first) != nil || json.Unmarshal([]byte(lines[len(lines)-1]), &last) != nil ||
		first.Event != "submitted" || last.Event != "end" || last.Code != 3 || last.State != "FAILED" || last.JobID != first.JobID || !strings.HasPrefix(last.Reason, "exit code 3") {
		t.Errorf("%s", r.Stdout)
	}
	for _, want := range []string{"rank 0 of 2 reads a file value at home", "rank 1 of 2 reads a file value at home"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("no %q in\n%s", want, r.Stdout)
		}
	}
	if !strings.Contains(r.Stderr, "2 nodes x 1 rank") || !strings.Contains(r.Stderr, "] note") {
		t.Error(r.Stderr)
	}
	id, err := yarn.ParseApplicationID(first.JobID)
	if err != nil {
		t.Fatal(err)
	}
	report, err := g.b.client(t, "alice").Report(within(t), id)
	if err != nil || report.Final != yarn.Failed || report.Type != "maniple" || report.User != "alice" || report.Name != "train.sh" {
		t.Errorf("%+v %v", report, err)
	}
	// What it printed is there when it is over, too: YARN brings it together.
	if r := g.run("logs", first.JobID); r.Code != 0 || !strings.Contains(r.Stdout, "rank 0 of 2 reads a file value at home") || !strings.Contains(r.Stdout, "rank 1 of 2") || !strings.Contains(r.Stderr, "] note") {
		t.Errorf("%+v", r)
	}
	if r := g.run("logs", "-f", first.JobID); r.Code != 0 || !strings.Contains(r.Stdout, "rank 0 of 2 reads a file value at home") {
		t.Errorf("%+v", r)
	}
	g.keepsSecrets(first.JobID)
	// What is over is told by YARN.
	if r := g.run("explain", first.JobID); r.Code != 0 || !strings.Contains(r.Stdout, "FAILED, exit code 3") {
		t.Errorf("%+v", r)
	}
	if r := g.run("status"); r.Code != 0 || !strings.Contains(r.Stderr, "no cluster is up") {
		t.Errorf("%+v", r)
	}
}

// keepsSecrets looks for an application's secrets in every file that its containers or their NodeManagers wrote: logs, scripts,
// environments. They are only where YARN itself keeps what it hands over.
func (g *gateway) keepsSecrets(application string) {
	g.t.Helper()
	secrets, files := g.secrets(application)
	aggregated := g.aggregated(application)
	if len(aggregated) == 0 {
		g.t.Error("no aggregated logs to look in")
	}
	maps.Copy(files, aggregated)
	if len(files) < 6 {
		g.t.Fatalf("of %s there are only %d files", application, len(files))
	}
	for path, text := range files {
		for _, secret := range secrets {
			own := filepath.Base(path) == "container_tokens" // YARN's file for the container's tokens
			for i, form := range forms(secret) {
				if bytes.Contains(text, form) && !(own && i == 0) {
					g.t.Errorf("%s holds a secret", path)
				}
			}
		}
	}
}

// forms are how a secret may be written.
func forms(secret []byte) [][]byte {
	return [][]byte{secret, []byte(base64.StdEncoding.EncodeToString(secret)), []byte(hex.EncodeToString(secret))}
}

// secrets are an application's, its users' and its nodes', from where YARN keeps what it hands over; and all other files that its containers or their
// NodeManagers wrote.
func (g *gateway) secrets(application string) (secrets [][]byte, files map[string][]byte) {
	g.t.Helper()
	var note struct{ Access struct{ Seed []byte } }
	data, err := os.ReadFile(filepath.Join(g.home, ".local", "state", "maniple", "jobs", "yarn", application, "endpoint.json"))
	if err == nil && json.Unmarshal(data, &note) != nil || len(note.Access.Seed) == 0 {
		g.t.Fatal(string(data), err)
	}
	secrets, files = [][]byte{note.Access.Seed}, map[string][]byte{}
	handed := map[string]bool{}
	nodes, _ := filepath.Glob(filepath.Join(g.b.dir, "nm?"))
	for _, nm := range nodes {
		filepath.WalkDir(nm, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || !strings.Contains(path, application) || strings.Contains(path, "filecache") || strings.HasSuffix(path, ".crc") {
				return nil
			}
			if !strings.Contains(path, "nmPrivate") || !strings.HasSuffix(path, ".tokens") {
				if text, err := os.ReadFile(path); err == nil { // else it was just removed
					files[path] = text
				}
				return nil
			}
			c, err := yarn.ReadCredentials(path)
			if err != nil {
				g.t.Error(err)
			}
			for name, secret := range c.Secrets {
				var of struct {
					Secret []byte
					Doc    struct{ Secret []byte }
				}
				if err := json.Unmarshal(secret, &of); err != nil || len(of.Secret)+len(of.Doc.Secret) != 32 {
					g.t.Error(path, name, err)
				}
				handed[name] = true
				secrets = append(secrets, append(of.Secret, of.Doc.Secret...))
			}
			for _, token := range c.Tokens {
				secrets = append(secrets, token.Password)
			}
			return nil
		})
	}
	if !handed["maniple.job"] || !handed["maniple.boot"] {
		g.t.Fatalf("of %s nothing was found to look for: %v", application, handed)
	}
	return secrets, files
}

// aggregated are the files in which YARN keeps an application's logs.
func (g *gateway) aggregated(application string) map[string][]byte {
	g.t.Helper()
	owner, err := yarn.CurrentUser()
	if err != nil {
		g.t.Fatal(err)
	}
	c := g.hdfsHome(yarn.Config{User: owner})
	defer c.Close()
	files := map[string][]byte{}
	err = c.Walk("/tmp/logs/alice", func(path string, info fs.FileInfo, err error) error {
		if err == nil && !info.IsDir() && strings.Contains(path, application) {
			files[path], err = c.ReadFile(path)
		}
		return err
	})
	if err != nil {
		g.t.Error(err)
	}
	return files
}

// Status, explain, logs and cancel find an application from where it was submitted, and its programs have their grace.
func TestSubmitAndCancel(t *testing.T) {
	g := gatewayOf(t)
	g.write("main.sh", "trap 'echo bye; exit 0' TERM; echo here; sleep 300 & wait\n")
	id := g.submit(append(small, "-N", "2", "--queue", "batch", "--", "bash", "main.sh")...)
	e2e.Until(t, limit, "its driver runs", func() bool {
		r := g.run("status", "--cluster", id)
		return strings.Contains(r.Stdout, "running")
	})
	if r := g.run("explain", id); r.Code != 0 || !strings.Contains(r.Stdout, "batch is RUNNING") || !strings.Contains(r.Stdout, "running since") {
		t.Errorf("%+v", r)
	} else {
		g.looksAt(r.Stdout)
	}
	if r := g.run("nodes", "--cluster", id); r.Code != 0 || !strings.Contains(r.Stdout, "n2") {
		t.Errorf("%+v", r)
	}
	follow := g.command(within(t), "logs", "-f", id)
	var out bytes.Buffer
	follow.Stdout = &out
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	if r := g.run("cancel", id); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	if err := follow.Wait(); err != nil || out.String() != "here\nbye\n" {
		t.Errorf("%v: %q", err, out.String())
	}
	g.over(id)
	if r := g.run("explain", "--json", id); !strings.Contains(r.Stdout, `"state":"FINISHED"`) || !strings.Contains(r.Stdout, `"code":143`) && !strings.Contains(r.Stdout, `"code":0`) {
		t.Errorf("%+v", r)
	}
	// One that waits for its queue is killed.
	id = g.submit("-N", "1", "--am-memory", "4G", "--mem", "3G", "--", "sleep", "300")
	if r := g.run("cancel", id); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	if r := g.run("explain", id); !strings.Contains(r.Stdout, "is KILLED") {
		t.Errorf("%+v", r)
	}
}

// looksAt looks at an application's page as a browser does, by YARN's own proxy, which `explain` names.
func (g *gateway) looksAt(explained string) {
	g.t.Helper()
	_, at, found := strings.Cut(explained, "its page: ")
	at, _, _ = strings.Cut(at, "\n")
	jar, err := cookiejar.New(nil)
	if err != nil || !found || !strings.Contains(at, "/proxy/application_") {
		g.t.Fatalf("%v, %q in\n%s", err, at, explained)
	}
	browser := &http.Client{Jar: jar, Timeout: limit}
	r, err := browser.Get(at)
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		g.t.Fatalf("%s %v\n%s", r.Status, err, text)
	}
	for _, want := range []string{"<h1>main.sh, application_", "<td>n1</td>", "<td>running</td>", "<pre>here</pre>", `http-equiv="refresh"`} {
		if !strings.Contains(string(text), want) {
			g.t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// What can never run is refused before it waits.
func TestSubmitRefuses(t *testing.T) {
	g := gatewayOf(t)
	for want, args := range map[string][]string{
		`no queue "nosuch"`:       {"--queue", "nosuch"},
		`no resource "fpga"`:      {"--gres", "fpga:1"},
		"never has more than":     {"-N", "20"},
		"largest container has":   {"--mem", "30G"},
		"no flag --partition":     {"--partition=x"},
		"does not exist":          {"--files", "x#y", "--no-check"},
		"would be in a container": {"-o", "out.txt"},
	} {
		r := g.run(append(append([]string{"submit", "--on", "yarn"}, args...), "--", "true")...)
		if want == "does not exist" {
			want = "no such file"
		}
		if r.Code == 0 || !strings.Contains(r.Stderr, want) || !strings.Contains(r.Stderr, "; ") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// GPUs are asked for by their name, and counted.
func TestSubmitWithGPUs(t *testing.T) {
	g := gatewayOf(t)
	r := g.run(append(append([]string{"submit", "--on", "yarn", "--follow", "-N", "1", "--gpus-per-node", "2"}, small...), "--", "sh", "-c", "echo mask=$CUDA_VISIBLE_DEVICES")...)
	if r.Code != 0 || !strings.Contains(r.Stdout, "mask=gpu-0,gpu-1") {
		t.Errorf("%+v", r)
	}
}

// A node whose container YARN took, or whose processes were killed, is replaced, and the gang formed anew.
func TestContainerIsLost(t *testing.T) {
	g := gatewayOf(t)
	g.write("twice.sh", "echo \"$MANIPLE_RESTARTS in $CONTAINER_ID\"; [ $MANIPLE_RESTARTS = 1 ] && exit 0; sleep 300\n")
	id := g.submit(append(small, "-N", "2", "--ntasks-per-node", "1", "--max-restarts", "3", "--", "bash", "twice.sh")...)
	follow := g.command(within(t), "logs", "-f", id)
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var messages bytes.Buffer
	follow.Stderr = &messages
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	seen := ""
	buffer := make([]byte, 4096)
	for killed := false; ; {
		n, err := out.Read(buffer)
		seen += string(buffer[:n])
		if !killed && strings.Count(seen, "0 in container") == 2 {
			killed = true
			at := strings.Index(seen, "container_")
			stop(t, strings.Fields(seen[at:])[0])
		}
		if err != nil {
			break
		}
	}
	if err := follow.Wait(); err != nil || strings.Count(seen, "1 in container") != 2 || !strings.Contains(messages.String(), "ended: exit code 137") {
		t.Errorf("%v\n%s\n%s", err, seen, messages.String())
	}
	if r := g.over(id); r.Final != yarn.Succeeded || r.Diagnostics != "exit code 0" {
		t.Errorf("%+v", r)
	}
}

// over waits for an application's end.
func (g *gateway) over(application string) yarn.Report {
	g.t.Helper()
	id, err := yarn.ParseApplicationID(application)
	if err != nil {
		g.t.Fatal(err)
	}
	r, err := g.b.client(g.t, "alice").Watch(within(g.t), id, 100*time.Millisecond, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// stop kills what runs in a container, as a node's power loss does.
func stop(t *testing.T, container string) {
	t.Helper()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if bytes.Contains(env, []byte("CONTAINER_ID="+container+"\x00")) && bytes.Contains(line, []byte("yarn-node")) {
			if out, err := exec.Command("kill", "-KILL", filepath.Base(dir)).CombinedOutput(); err != nil {
				t.Log(string(out))
			}
		}
	}
}

// The time of an application counts from its submission, as YARN counts it. At its end the programs have their grace, and the exit code is that of a
// time limit: YARN itself, which would kill them, comes later.
func TestSubmitWithATimeLimit(t *testing.T) {
	g := gatewayOf(t)
	id := g.submit(append(small, "-N", "1", "-n", "1", "-t", "0:01", "--signal", "CONT@60", "--", "sleep", "300")...) // over before it starts
	if r := g.over(id); r.Final != yarn.Failed || !strings.HasPrefix(r.Diagnostics, "exit code 143; ") || !strings.Contains(r.Diagnostics, "the time limit of 1s since its submission is over") {
		t.Errorf("%+v", r)
	}
}
