package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/yarn"
)

// As the command of an action of Oozie's an application has its own tags and those by which Oozie finds it.
func TestSubmitTakesTagsOfOozie(t *testing.T) {
	file := filepath.Join(t.TempDir(), "action.xml")
	env := map[string]string{"OOZIE_ACTION_CONF_XML": file}
	c := &call{app: &app{stderr: new(bytes.Buffer), getenv: func(name string) string { return env[name] }}, ctx: t.Context(), page: &page{name: "submit"}}
	tags := func() ([]string, error) {
		r, err := parseSubmit([]string{"--tags", "Mine", "--", "true"}, yarnOptions(), c.getenv)
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.yarnApplication(r)
		if err != nil {
			return nil, err
		}
		return a.Tags, nil
	}
	var fault *Fault
	if list, err := tags(); !errors.As(err, &fault) || fault.Name != "CONFIG" {
		t.Error("a file that is not there:", list, err)
	}
	for text, want := range map[string][]string{
		"<configuration><property><name>oozie.child.mapreduce.job.tags</name><value>oozie-1F, other,oozie-1f</value></property></configuration>": {"mine", "oozie-1f", "other"},
		"<configuration><property><name>mapreduce.job.tags</name><value>launcher</value></property></configuration>":                             {"mine"},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := tags(); err != nil || !slices.Equal(list, want) {
			t.Error(list, err)
		}
	}
	env["OOZIE_ACTION_CONF_XML"] = "" // as Oozie sets it where there is none
	if list, err := tags(); err != nil || !slices.Equal(list, []string{"mine"}) {
		t.Error(list, err)
	}
}

const secureSite = `<configuration><property><name>hadoop.security.authentication</name><value>kerberos</value></property>
<property><name>yarn.resourcemanager.hostname</name><value>localhost</value></property></configuration>`

// On a cluster with Kerberos a container's tokens are enough; who names a keytab means that, and where there is none for the ResourceManager it is kinit's.
func TestTokensOfAContainerLogIn(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	env := map[string]string{"HADOOP_CONF_DIR": dir, "HADOOP_TOKEN_FILE_LOCATION": tokens, "USER": "alice", "CONTAINER_ID": "container_1_1_1_1"}
	if err := os.WriteFile(filepath.Join(dir, "core-site.xml"), []byte(secureSite), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(dir, "none"))
	c := &call{app: &app{stderr: new(bytes.Buffer), getenv: func(name string) string { return env[name] }}, ctx: t.Context(), page: &page{name: "submit"}}
	fails := func(who as, name string) {
		t.Helper()
		var fault *Fault
		if s, err := c.yarnSite(who); !errors.As(err, &fault) || fault.Name != name {
			t.Error(s, err)
		}
	}
	fails(as{}, "CONFIG") // no such file
	all := yarn.Credentials{Tokens: map[string]yarn.Token{"hdfs": {Kind: yarn.KindHDFS, Service: "127.0.0.1:8020"}}}
	write := func() {
		t.Helper()
		if err := os.WriteFile(tokens, all.Marshal(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	fails(as{}, "REFUSED") // none for the ResourceManager, and no ticket
	all.Tokens["rm"] = yarn.Token{Kind: yarn.KindRMDelegation, Service: "127.0.0.1:8032"}
	write()
	s, err := c.yarnSite(as{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, ok := s.carried.ForHDFS("127.0.0.1:8020"); !ok || s.user != "alice" || s.login != nil {
		t.Errorf("%+v", s)
	}
	fails(as{principal: "alice", keytab: filepath.Join(dir, "keytab")}, "REFUSED")
	delete(env, "USER")
	fails(as{}, "CONFIG")
}
