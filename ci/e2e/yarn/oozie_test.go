//go:build e2e

package yarn

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
)

// actionVariable makes this binary a launcher, as Oozie's is: the master of an application of its own, with a command for its only work. Its value is the folder of
// the site's configuration.
const actionVariable = "MANIPLE_E2E_ACTION"

// oozieTag is the tag that the server gave the action.
const oozieTag = "oozie-0123456789abcdef0123456789abcdef"

// playLauncher does in its container what Oozie's launcher does for a shell action: the action's configuration in action.xml, and in a folder of its own in the place of the
// site's files; then the command, under the container's variables and those two. Its standard output is the action's, of which YARN is told.
func playLauncher() int {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := func() error {
		credentials, err := yarn.ReadCredentials(os.Getenv("HADOOP_TOKEN_FILE_LOCATION"))
		if err != nil {
			return err
		}
		token, _ := credentials.Find(yarn.KindAMRM, "")
		id, err := yarn.ParseContainerID(os.Getenv("CONTAINER_ID"))
		if err != nil {
			return err
		}
		m, err := am.Register(ctx, am.Config{Schedulers: []string{os.Getenv(roleVariable)}, Token: token, Attempt: id.Attempt})
		if err != nil {
			return err
		}
		here, err := os.Getwd()
		if err != nil {
			return err
		}
		dir := filepath.Join(here, "oozie-hadoop-conf-1")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		action := actionXML(os.Getenv(actionVariable))
		for _, file := range []string{"action.xml", dir + "/core-site.xml", dir + "/hdfs-site.xml", dir + "/mapred-site.xml", dir + "/yarn-site.xml"} {
			if err := os.WriteFile(file, []byte(action), 0o644); err != nil {
				return err
			}
		}
		cmd := exec.CommandContext(ctx, "./train-action.sh")
		cmd.Env = append(os.Environ(), "OOZIE_ACTION_CONF_XML="+filepath.Join(here, "action.xml"), "HADOOP_CONF_DIR="+dir, "YARN_CONF_DIR="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		fmt.Printf("Stdoutput %s", out)
		if err != nil {
			return m.Finish(ctx, yarn.Failed, fmt.Sprintf("%v %s", err, out), "")
		}
		return m.Finish(ctx, yarn.Succeeded, string(out), "")
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var property = regexp.MustCompile(`(?s)<property>.*?</property>`)

// actionXML is an action's configuration: the site's, and what the server adds.
func actionXML(site string) string {
	text := "<configuration><property><name>oozie.child.mapreduce.job.tags</name><value>" + oozieTag + "</value></property>"
	for _, name := range []string{"core-site.xml", "hdfs-site.xml", "yarn-site.xml"} {
		part, err := os.ReadFile(filepath.Join(site, name))
		if err == nil {
			text += strings.Join(property.FindAllString(string(part), -1), "\n")
		}
	}
	return text + "</configuration>"
}

// action runs the guide's script as the command of an action, with a program, and gives how its launcher ends.
func (g *gateway) action(c *yarn.Client, tokens yarn.Credentials, program string) yarn.Report {
	g.t.Helper()
	ctx := within(g.t)
	_, here, _, _ := runtime.Caller(0)
	script, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "..", "docs", "guide", "oozie", "train-action.sh"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.write("train-action.sh", string(script))
	g.write("train.sh", program)
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	files := map[string]yarn.LocalResource{}
	for name, file := range map[string]string{"maniple": g.binary, "train-action.sh": filepath.Join(g.dir, "train-action.sh"), "train.sh": filepath.Join(g.dir, "train.sh")} {
		info, err := os.Stat(file)
		if err != nil {
			g.t.Fatal(err)
		}
		files[name] = yarn.LocalResource{URL: yarn.URL{Scheme: "file", Path: file}, Size: info.Size(), Timestamp: info.ModTime(), Type: yarn.File, Visibility: yarn.Application}
	}
	environ := map[string]string{roleVariable: g.b.rm.Scheduler, actionVariable: filepath.Join(g.b.dir, "conf", "rm")}
	for _, v := range g.environ {
		name, value, _ := strings.Cut(v, "=")
		environ[name] = value
	}
	r, err := c.Submit(ctx, yarn.Submission{
		Name: "oozie:launcher", Resource: yarn.Resource{MemoryMB: 256, VCores: 1}, MaxAttempts: 1,
		Launch: yarn.LaunchContext{
			Commands: []string{self + " 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"}, Environment: environ, Tokens: tokens.Marshal(), Files: files,
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	if r, err = c.Watch(ctx, r.ID, 100*time.Millisecond, nil); err != nil {
		g.t.Fatal(err)
	}
	return r
}

// tagged are the applications that Oozie would find.
func tagged(t *testing.T, c *yarn.Client) []yarn.Report {
	t.Helper()
	list, err := c.Applications(within(t), yarn.Filter{Tags: []string{oozieTag}, Types: []string{"maniple"}})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var captured = regexp.MustCompile(`^application=(application_[0-9_]+)\n$`)

// The script of the guide is the command of a shell action of Oozie's: its output is what the workflow captures, its end the program's, and Oozie finds and kills the application by its tag, as
// `yarn application` does by its type and ID.
func TestActionOfOozie(t *testing.T) {
	g := gatewayOf(t)
	c := g.b.client(t, "alice")
	r := g.action(c, yarn.Credentials{}, "echo $USER trains")
	m := captured.FindStringSubmatch(r.Diagnostics)
	if r.Final != yarn.Succeeded || m == nil {
		t.Fatalf("%+v", r)
	}
	id, err := yarn.ParseApplicationID(m[1])
	if err != nil {
		t.Fatal(err)
	}
	child, err := c.Report(within(t), id)
	if err != nil || child.User != "alice" || child.Final != yarn.Succeeded || child.Type != "maniple" || !slices.Equal(slices.Sorted(slices.Values(child.Tags)), []string{"nightly", oozieTag}) {
		t.Errorf("%+v %v", child, err)
	}
	before := map[yarn.ApplicationID]bool{}
	for _, old := range tagged(t, c) {
		before[old.ID] = true
	}
	killed := make(chan error, 1)
	go func() { // as the server does when the workflow is killed
		killed <- func() error {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			for ctx.Err() == nil {
				list, err := c.Applications(ctx, yarn.Filter{Tags: []string{oozieTag}, States: []yarn.ApplicationState{yarn.StateRunning}})
				if err != nil {
					return err
				}
				for _, r := range list {
					if !before[r.ID] {
						return c.Kill(ctx, r.ID, "the workflow was killed")
					}
				}
				time.Sleep(100 * time.Millisecond)
			}
			return ctx.Err()
		}()
	}()
	r = g.action(c, yarn.Credentials{}, "exec sleep 300")
	if err := <-killed; err != nil || r.Final != yarn.Failed || !strings.HasPrefix(r.Diagnostics, "exit status 143 application=") {
		t.Errorf("%+v %v", r, err)
	}
	if len(tagged(t, c)) != len(before)+1 {
		t.Errorf("%+v", tagged(t, c))
	}
}

// On a cluster with Kerberos the launcher has tokens and no ticket: for the ResourceManager and for HDFS. The application goes on with the second one.
func TestActionOfOozieWithKerberos(t *testing.T) {
	b := secure.up(t)
	g := accountOn(t, b)
	g.kerberosHome().Close()
	l := b.login(t)
	c := b.as(t, func(c *yarn.Config) { c.Kerberos = l })
	addresses, service, err := b.conf.NameNodes("")
	if err != nil {
		t.Fatal(err)
	}
	rm, err := c.DelegationToken(within(t), b.conf.Principal("yarn.resourcemanager.principal", b.rm.Host))
	if err != nil {
		t.Fatal(err)
	}
	rm.Service = yarn.TokenService(within(t), b.rm.Client, true)
	way, err := yarn.NewHDFS(b.conf, yarn.Config{Kerberos: l}, addresses)
	if err != nil {
		t.Fatal(err)
	}
	hdfs, err := way.Token(within(t), yarn.TokenService(within(t), service, true), b.conf.Principal("yarn.resourcemanager.principal", b.rm.Host))
	if err != nil {
		t.Fatal(err)
	}
	g.environ = []string{"KRB5_CONFIG=/nonexistent/krb5.conf", "KRB5CCNAME=FILE:/nonexistent/cache"}
	r := g.action(c, yarn.Credentials{Tokens: map[string]yarn.Token{"rm": rm, "hdfs": hdfs}}, "echo $USER trains")
	m := captured.FindStringSubmatch(r.Diagnostics)
	if r.Final != yarn.Succeeded || m == nil {
		t.Fatalf("%+v", r)
	}
	id, err := yarn.ParseApplicationID(m[1])
	if err != nil {
		t.Fatal(err)
	}
	if child, err := c.Report(within(t), id); err != nil || child.User != "alice" || child.Final != yarn.Succeeded || !slices.Contains(child.Tags, oozieTag) {
		t.Errorf("%+v %v", child, err)
	}
}
