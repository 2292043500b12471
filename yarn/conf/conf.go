package conf

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// Conf is keys and values.
type Conf struct {
	values map[string]setting
	getenv func(string) string
}

type setting struct {
	value, source string
	final         bool
}

// New is a Conf with nothing but the defaults.
func New() *Conf { return &Conf{values: map[string]setting{}, getenv: os.Getenv} }

// Set sets a key, as a command line does: over every file, final or not.
func (c *Conf) Set(key, value string) {
	c.values[key] = setting{value, "set by the program", true}
}

// Defaults are the values of the keys that this room's clients need and no file has to name, from Hadoop's
// core-default.xml, hdfs-default.xml and yarn-default.xml.
var Defaults = map[string]string{
	"fs.defaultFS":                     "file:///",
	"hadoop.security.authentication":   "simple",
	"hadoop.rpc.protection":            "authentication",
	"dfs.encrypt.data.transfer":        "false",
	"dfs.client.use.datanode.hostname": "false",

	"yarn.resourcemanager.hostname":                                          "0.0.0.0",
	"yarn.resourcemanager.address":                                           "${yarn.resourcemanager.hostname}:8032",
	"yarn.resourcemanager.scheduler.address":                                 "${yarn.resourcemanager.hostname}:8030",
	"yarn.resourcemanager.webapp.address":                                    "${yarn.resourcemanager.hostname}:8088",
	"yarn.resourcemanager.webapp.https.address":                              "${yarn.resourcemanager.hostname}:8090",
	"yarn.resourcemanager.ha.enabled":                                        "false",
	"yarn.resourcemanager.connect.max-wait.ms":                               "900000",
	"yarn.resourcemanager.connect.retry-interval.ms":                         "30000",
	"yarn.scheduler.minimum-allocation-mb":                                   "1024",
	"yarn.scheduler.minimum-allocation-vcores":                               "1",
	"yarn.http.policy":                                                       "HTTP_ONLY",
	"yarn.am.liveness-monitor.expiry-interval-ms":                            "600000",
	"yarn.resourcemanager.rm.container-allocation.expiry-interval-ms":        "600000",
	"yarn.nodemanager.pmem-check-enabled":                                    "true",
	"yarn.nodemanager.vmem-check-enabled":                                    "true",
	"yarn.nodemanager.vmem-pmem-ratio":                                       "2.1",
	"yarn.nodemanager.container-monitor.procfs-tree.smaps-based-rss.enabled": "false",
	"yarn.log-aggregation-enable":                                            "false",
	"yarn.nodemanager.remote-app-log-dir":                                    "/tmp/logs",
}

// deprecated are old names that are still met, and the new ones.
var deprecated = map[string]string{
	"fs.default.name":                 "fs.defaultFS",
	"dfs.federation.nameservices":     "dfs.nameservices",
	"dfs.http.address":                "dfs.namenode.http-address",
	"dfs.block.size":                  "dfs.blocksize",
	"hadoop.configured.node.mapping":  "net.topology.configured.node.mapping",
	"yarn.resourcemanager.zk-address": "hadoop.zk.address",
}

// Lookup gives a key's value with its variables replaced, and whether a file or a default has it.
func (c *Conf) Lookup(key string) (string, bool) {
	if now, old := deprecated[key]; old {
		key = now
	}
	raw, ok := c.raw(key)
	if !ok {
		return "", false
	}
	return c.expand(raw), true
}

func (c *Conf) raw(key string) (string, bool) {
	if s, ok := c.values[key]; ok {
		return s.value, true
	}
	v, ok := Defaults[key]
	return v, ok
}

// Get gives a key's value without space around it; "" if there is none.
func (c *Conf) Get(key string) string {
	v, _ := c.Lookup(key)
	return strings.TrimSpace(v)
}

// Source is the file that has a key; "" for a default or none.
func (c *Conf) Source(key string) string { return c.values[key].source }

// Bool gives a key's truth; what is neither true nor false is otherwise, as in Hadoop.
func (c *Conf) Bool(key string, otherwise bool) bool {
	switch strings.ToLower(c.Get(key)) {
	case "true":
		return true
	case "false":
		return false
	}
	return otherwise
}

// Int gives a key's number, also 0x written ones; otherwise if there is none.
func (c *Conf) Int(key string, otherwise int64) (int64, error) {
	v := c.Get(key)
	if v == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(v, 0, 64)
	if dec, bad := strconv.ParseInt(v, 10, 64); bad == nil {
		n, err = dec, nil // 010 is ten
	}
	if err != nil {
		return 0, fmt.Errorf("conf: %s: %s is %q, not a number", c.Source(key), key, v)
	}
	return n, nil
}

// Strings gives a key's list: parts between commas, without space around them and without empty ones.
func (c *Conf) Strings(key string) []string {
	var out []string
	for _, p := range strings.Split(c.Get(key), ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// Duration gives a key's time. A number without a suffix counts unit; the suffixes are ns, us, ms, s, m, h and d.
func (c *Conf) Duration(key string, unit, otherwise time.Duration) (time.Duration, error) {
	v := strings.ToLower(c.Get(key))
	if v == "" {
		return otherwise, nil
	}
	text := v
	for _, s := range []struct {
		suffix string
		unit   time.Duration
	}{{"ns", 1}, {"us", time.Microsecond}, {"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}} {
		if rest, ok := strings.CutSuffix(v, s.suffix); ok {
			text, unit = strings.TrimSpace(rest), s.unit
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > int64(1<<63-1)/int64(unit) || n < -int64(1<<63-1)/int64(unit) {
		return 0, fmt.Errorf("conf: %s: %s is %q, not a time such as 30s", c.Source(key), key, v)
	}
	return time.Duration(n) * unit, nil
}

const maxExpansions = 20

// expand replaces ${...} from the left, also in what was replaced (CONF-2).
func (c *Conf) expand(s string) string {
	for range maxExpansions {
		start, end, name := variable(s)
		if name == "" {
			return s
		}
		value, ok := c.variable(name)
		if !ok {
			return s // Hadoop stops at the first that it does not know
		}
		s = s[:start] + value + s[end:]
	}
	return s
}

// variable finds the first ${name}; a name has no $, brace or space. An inner one comes first.
func variable(s string) (start, end int, name string) {
	for from := 0; ; {
		i := strings.Index(s[from:], "${")
		if i < 0 {
			return 0, 0, ""
		}
		start = from + i
		body := s[start+2:]
		n := strings.IndexAny(body, "}$ ")
		if n > 0 && body[n] == '}' {
			return start, start + 2 + n + 1, body[:n]
		}
		from = start + 2
	}
}

func (c *Conf) variable(name string) (string, bool) {
	if env, ok := strings.CutPrefix(name, "env."); ok {
		n, otherwise, has := strings.Cut(env, "-")
		n = strings.TrimSuffix(n, ":")
		if v := c.getenv(n); v != "" || !has {
			return v, v != ""
		}
		return otherwise, true
	}
	if name == "user.name" {
		if u, err := user.Current(); err == nil {
			return u.Username, true
		}
	}
	return c.raw(name)
}
