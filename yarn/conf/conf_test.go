package conf

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// of makes a Conf of files, given as name and content.
func of(t *testing.T, files ...string) (*Conf, error) {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(dir)
	if c != nil {
		c.getenv = func(n string) string { return map[string]string{"SET": "env", "EMPTY": ""}[n] }
	}
	return c, err
}

func must(t *testing.T, files ...string) *Conf {
	t.Helper()
	c, err := of(t, files...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func xmlOf(pairs ...string) string {
	b := "<?xml version=\"1.0\"?>\n<!-- a comment -->\n<configuration>\n"
	for i := 0; i < len(pairs); i += 2 {
		b += "<property><name>" + pairs[i] + "</name><value>" + pairs[i+1] + "</value></property>\n"
	}
	return b + "</configuration>\n"
}

// CONF-1.
func TestLastCountsUnlessFinal(t *testing.T) {
	c := must(t,
		"core-site.xml", `<configuration>
			<property><name> a </name><value>1</value><final>true</final></property>
			<property><name>b</name><value>1</value><description>text</description></property>
			<property name="c" value="attribute" final="true"/>
			<property><name>d</name></property>
			<property><value>nameless</value></property>
			<property><name>e</name><value/></property>
			<configuration><property><name>f</name><value>nested</value></property></configuration>
			<property><name>fs.default.name</name><value>hdfs://old:1</value></property>
		</configuration>`,
		"yarn-site.xml", xmlOf("a", "2", "b", "2", "c", "2"))
	for key, want := range map[string]string{"a": "1", "b": "2", "c": "attribute", "f": "nested", "fs.defaultFS": "hdfs://old:1", "fs.default.name": "hdfs://old:1"} {
		if got := c.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if _, ok := c.Lookup("d"); ok {
		t.Error("a property without a value is there")
	}
	if v, ok := c.Lookup("e"); !ok || v != "" {
		t.Error("an empty value is not there")
	}
	if !strings.HasSuffix(c.Source("b"), "yarn-site.xml") || c.Source("hadoop.rpc.protection") != "" {
		t.Error(c.Source("b"))
	}
	c.Set("a", "3")
	if c.Get("a") != "3" {
		t.Error("the program's word does not count")
	}
}

// CONF-2.
func TestVariables(t *testing.T) {
	c := must(t, "core-site.xml", xmlOf(
		"host", "h1", "plain", "${host}:80", "twice", "${plain}/${host}", "inner", "${${which}}", "which", "host",
		"env", "${env.SET}", "unset", "${env.NONE}", "dash", "${env.EMPTY-d}", "colon", "${env.NONE:-d:e}", "set", "${env.SET-d}",
		"unknown", "a ${nothing} b", "loop", "${loop}", "broken", "${host", "space", "${no name}", "stops", "${nothing} ${host}"))
	for key, want := range map[string]string{
		"plain": "h1:80", "twice": "h1:80/h1", "inner": "h1", "env": "env", "unset": "${env.NONE}", "dash": "d", "colon": "d:e", "set": "env",
		"unknown": "a ${nothing} b", "loop": "${loop}", "broken": "${host", "space": "${no name}", "stops": "${nothing} ${host}",
		"yarn.resourcemanager.address": "0.0.0.0:8032",
	} {
		if got := c.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// CONF-3.
func TestIncludes(t *testing.T) {
	const head = `<configuration xmlns:xi="http://www.w3.org/2001/XInclude">`
	c := must(t,
		"core-site.xml", head+`<property><name>a</name><value>before</value></property><property><name>b</name><value>before</value></property>
			<xi:include href="more.xml"/><property><name>b</name><value>after</value></property>
			<xi:include href="gone.xml"><xi:fallback><property><name>c</name><value>fallback</value></property></xi:fallback></xi:include>
			<xi:include href="more.xml"><xi:fallback><property><name>d</name><value>unused</value></property></xi:fallback></xi:include>
			<xi:include href="gone.xml"><xi:fallback/></xi:include>
		</configuration>`,
		"more.xml", xmlOf("a", "included", "e", "${b}"))
	for key, want := range map[string]string{"a": "included", "b": "after", "c": "fallback", "d": "", "e": "after"} {
		if got := c.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for want, text := range map[string]string{
		"include itself": head + `<xi:include href="core-site.xml"/></configuration>`,
		"can't be read":  head + `<xi:include href="gone.xml"/></configuration>`,
		"only files are": head + `<xi:include href="http://x/y.xml"/></configuration>`,
		"<html>":         "<html/>",
		"no <configur":   "",
		"syntax error":   "<configuration><property></configuration>",
		"unexpected EOF": "<configuration>",
	} {
		// CONF-4.
		if _, err := of(t, "core-site.xml", text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "core-site.xml") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestTypes(t *testing.T) {
	c := must(t, "core-site.xml", xmlOf("n", " 42 ", "x", "0x10", "o", "010", "no", "4 2", "t", "TRUE", "f", "false", "z", "maybe", "list", " a, b,,c ",
		"d1", "30s", "d2", "500", "d3", "2 h", "d4", "1d", "d5", "soon", "d6", "99999999999999d"))
	for key, want := range map[string]int64{"n": 42, "x": 16, "o": 10, "none": 7} {
		if n, err := c.Int(key, 7); err != nil || n != want {
			t.Error(key, n, err)
		}
	}
	if _, err := c.Int("no", 0); err == nil || !strings.Contains(err.Error(), "core-site.xml: no is") {
		t.Error(err)
	}
	if !c.Bool("t", false) || c.Bool("f", true) || !c.Bool("z", true) || c.Bool("none", false) {
		t.Error("truths")
	}
	if got := c.Strings("list"); !reflect.DeepEqual(got, []string{"a", "b", "c"}) {
		t.Error(got)
	}
	for key, want := range map[string]time.Duration{"d1": 30 * time.Second, "d2": 500 * time.Millisecond, "d3": 2 * time.Hour, "d4": 24 * time.Hour, "none": 1} {
		if d, err := c.Duration(key, time.Millisecond, 1); err != nil || d != want {
			t.Error(key, d, err)
		}
	}
	for _, key := range []string{"d5", "d6"} {
		if d, err := c.Duration(key, time.Second, 0); err == nil {
			t.Error(key, d)
		}
	}
}

func TestResourceManagers(t *testing.T) {
	c := must(t, "yarn-site.xml", xmlOf("yarn.resourcemanager.hostname", "rm.example", "yarn.resourcemanager.scheduler.address", "other:1"))
	got, err := c.ResourceManagers()
	if want := []ResourceManager{{"", "rm.example:8032", "other:1", "http://rm.example:8088", "rm.example"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Error(got, err)
	}
	c = must(t, "yarn-site.xml", xmlOf("yarn.resourcemanager.ha.enabled", "true", "yarn.resourcemanager.ha.rm-ids", "rm1, rm2", "yarn.http.policy", "HTTPS_ONLY",
		"yarn.resourcemanager.hostname.rm1", "one", "yarn.resourcemanager.hostname.rm2", "two", "yarn.resourcemanager.address.rm2", "client:7"))
	got, err = c.ResourceManagers()
	if want := []ResourceManager{{"rm1", "one:8032", "one:8030", "https://one:8090", "one"}, {"rm2", "client:7", "two:8030", "https://two:8090", "client"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Error(got, err)
	}
	for want, text := range map[string]string{
		"set yarn.resourcemanager.hostname":            xmlOf("a", "b"),
		"names none":                                   xmlOf("yarn.resourcemanager.ha.enabled", "true"),
		"neither yarn.resourcemanager.address.rm1 nor": xmlOf("yarn.resourcemanager.ha.enabled", "true", "yarn.resourcemanager.ha.rm-ids", "rm1"),
		"not host:port":                                xmlOf("yarn.resourcemanager.address", "rm:port"),
	} {
		if got, err := must(t, "yarn-site.xml", text).ResourceManagers(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v", want, got, err)
		}
	}
}

func TestNameNodes(t *testing.T) {
	c := must(t, "core-site.xml", xmlOf("fs.defaultFS", "hdfs://ns/"),
		"hdfs-site.xml", xmlOf("dfs.nameservices", "ns,flat", "dfs.ha.namenodes.ns", "n1,n2", "dfs.namenode.rpc-address.ns.n1", "a:1", "dfs.namenode.rpc-address.ns.n2", "b",
			"dfs.namenode.rpc-address.flat", "c:3"))
	for uri, want := range map[string]string{
		"": "a:1 b:8020 ha-hdfs:ns", "hdfs://ns/user/x": "a:1 b:8020 ha-hdfs:ns", "hdfs://flat": "c:3 c:3", "hdfs://h:9": "h:9 h:9", "hdfs://h/x": "h:8020 h:8020",
	} {
		got, service, err := c.NameNodes(uri)
		if s := strings.Join(append(got, service), " "); err != nil || s != want {
			t.Errorf("%q: %s %v", uri, s, err)
		}
	}
	for _, uri := range []string{"file:///", "s3a://bucket", "hdfs:///x", "hdfs://h:x"} {
		if got, _, err := c.NameNodes(uri); err == nil {
			t.Error(uri, got)
		}
	}
}

func TestPrincipal(t *testing.T) {
	c := must(t, "core-site.xml", xmlOf("hadoop.security.authentication", "Kerberos", "yarn.resourcemanager.principal", "rm/_HOST@EXAMPLE.COM"))
	if p := c.Principal("yarn.resourcemanager.principal", "RM.Example.com"); p != "rm/rm.example.com@EXAMPLE.COM" || !c.Secure() || New().Secure() {
		t.Error(p)
	}
}

func TestDir(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	etc := filepath.Join(home, "etc", "hadoop")
	if err := os.MkdirAll(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "core-site.xml"), []byte(xmlOf()), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(kv ...string) func(string) string {
		return func(n string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == n {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	if d, err := Dir(env("HADOOP_CONF_DIR", dir, "HADOOP_HOME", home)); err != nil || d != dir {
		t.Error(d, err)
	}
	if d, err := Dir(env("HADOOP_HOME", home)); err != nil || d != etc {
		t.Error(d, err)
	}
	if d, err := Dir(env("YARN_CONF_DIR", dir, "HADOOP_HOME", home)); err != nil || d != dir {
		t.Error(d, err)
	}
	if c, err := Find(env("YARN_CONF_DIR", etc)); err != nil || len(c.values) != 0 {
		t.Error(c, err)
	}
	if d, err := Dir(env("HADOOP_CONF_DIR", "/no/such/folder")); err == nil || !strings.Contains(err.Error(), "HADOOP_CONF_DIR") {
		t.Error(d, err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "none of") {
		t.Error(err)
	}
}

// Editors have written such files in more than UTF-8.
func TestEncodings(t *testing.T) {
	letters := "<configuration><property><name>queue</name><value>Gr\u00fc\u00dfe \u20ac</value></property></configuration>"
	wide := func(mark string, order binary.AppendByteOrder) string {
		b := []byte(mark)
		for _, u := range utf16.Encode([]rune("<?xml version=\"1.0\" encoding=\"UTF-16\"?>" + letters + "<!-- \U0001f600 -->")) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	narrow := func(label, euro string) string {
		return "<?xml version=\"1.0\" encoding=\"" + label + "\"?>" + strings.NewReplacer("\u00fc", "\xfc", "\u00df", "\xdf", "\u20ac", euro).Replace(letters)
	}
	for what, text := range map[string]string{
		"UTF-8": letters, "UTF-8 with a mark": "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>" + letters,
		"UTF-16 of Windows": wide("\xff\xfe", binary.LittleEndian), "UTF-16": wide("\xfe\xff", binary.BigEndian), "UTF-16 without a mark": wide("", binary.BigEndian),
		"windows-1252": narrow("Windows-1252", "\x80"), "Latin 9": narrow("ISO-8859-15", "\xa4"), "Latin 1": narrow("ISO-8859-1", "&#8364;"),
	} {
		if got := must(t, "yarn-site.xml", text).Get("queue"); got != "Gr\u00fc\u00dfe \u20ac" {
			t.Errorf("%s: %q", what, got)
		}
	}
	if _, err := of(t, "core-site.xml", narrow("EUC-JP", "")); err == nil || !strings.Contains(err.Error(), "core-site.xml") || !strings.Contains(err.Error(), "write it in UTF-8") {
		t.Error(err)
	}
}

func FuzzConf(f *testing.F) {
	f.Add(xmlOf("a", "${b}", "b", "${env.X-${a}}"), "a")
	f.Fuzz(func(t *testing.T, text, key string) {
		c := New()
		if c.AddXML(strings.NewReader(text), "/nowhere/x.xml") == nil {
			c.Get(key)
			c.ResourceManagers()
			c.NameNodes("")
			c.Set("hadoop.security.auth_to_local", text)
			c.ShortName(key, "EXAMPLE.COM")
		}
	})
}
