package conf

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ResourceManager is one of a cluster's.
type ResourceManager struct {
	ID        string // "" without high availability
	Client    string // host:port for clients
	Scheduler string // host:port for ApplicationMasters
	Web       string // http://host:port or https://host:port
	Host      string // of the client address: what _HOST in its principal stands for
}

// ResourceManagers lists the cluster's, with high availability in the order of yarn.resourcemanager.ha.rm-ids.
func (c *Conf) ResourceManagers() ([]ResourceManager, error) {
	ids := []string{""}
	if c.Bool("yarn.resourcemanager.ha.enabled", false) {
		if ids = c.Strings("yarn.resourcemanager.ha.rm-ids"); len(ids) == 0 {
			return nil, fmt.Errorf("conf: %s: yarn.resourcemanager.ha.enabled is true, and yarn.resourcemanager.ha.rm-ids names none", c.Source("yarn.resourcemanager.ha.enabled"))
		}
	}
	var out []ResourceManager
	for _, id := range ids {
		m := ResourceManager{ID: id}
		var err error
		for _, a := range []struct {
			key  string
			port string
			to   *string
		}{
			{"yarn.resourcemanager.address", "8032", &m.Client},
			{"yarn.resourcemanager.scheduler.address", "8030", &m.Scheduler},
		} {
			if *a.to, err = c.address(a.key, id, a.port); err != nil {
				return nil, err
			}
		}
		key, port, scheme := "yarn.resourcemanager.webapp.address", "8088", "http://"
		if c.Get("yarn.http.policy") == "HTTPS_ONLY" {
			key, port, scheme = "yarn.resourcemanager.webapp.https.address", "8090", "https://"
		}
		if m.Web, err = c.address(key, id, port); err != nil {
			return nil, err
		}
		m.Web = scheme + m.Web
		m.Host, _, _ = net.SplitHostPort(m.Client)
		if m.Host == "0.0.0.0" {
			return nil, fmt.Errorf("conf: no file says where the ResourceManager %s is: set yarn.resourcemanager.hostname", id)
		}
		out = append(out, m)
	}
	return out, nil
}

// WebProxies lists where YARN's web proxy serves, as http://host:port: at yarn.web-proxy.address, else at each ResourceManager's own pages.
func (c *Conf) WebProxies() (list []string, err error) {
	scheme := "http://"
	if c.Get("yarn.http.policy") == "HTTPS_ONLY" {
		scheme = "https://"
	}
	if own := c.Get("yarn.web-proxy.address"); own != "" {
		a, err := withPort("yarn.web-proxy.address", own, "9099")
		if err != nil {
			return nil, err
		}
		return []string{scheme + a}, nil
	}
	all, err := c.ResourceManagers()
	for _, m := range all {
		list = append(list, m.Web)
	}
	return list, err
}

// address is a service's address: of its own key, else of the ResourceManager's host name and a port.
func (c *Conf) address(key, id, port string) (string, error) {
	suffix := ""
	if id != "" {
		suffix = "." + id
	}
	value, own := "", false
	if _, own = c.values[key+suffix]; own {
		value = c.Get(key + suffix)
	} else if host, ok := c.Lookup("yarn.resourcemanager.hostname" + suffix); ok {
		value = strings.TrimSpace(host) + ":" + port
	} else {
		return "", fmt.Errorf("conf: neither %s%s nor yarn.resourcemanager.hostname%s is set", key, suffix, suffix)
	}
	return withPort(key+suffix, value, port)
}

// withPort checks an address and gives it a port if it has none.
func withPort(key, value, port string) (string, error) {
	if !strings.Contains(value, ":") {
		value += ":" + port
	}
	host, p, err := net.SplitHostPort(value)
	n, bad := strconv.ParseUint(p, 10, 16)
	if err != nil || bad != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ ") {
		return "", fmt.Errorf("conf: %s is %q, not host:port", key, value)
	}
	return value, nil
}

// NameNodes lists the addresses of the NameNodes behind a file system's URI, as hdfs://nameservice or hdfs://host:8020; "" is
// fs.defaultFS. service is what a token for it is called: host:port as written, or ha-hdfs:nameservice.
func (c *Conf) NameNodes(uri string) (addresses []string, service string, err error) {
	said := "the NameNode"
	if uri == "" {
		said, uri = "fs.defaultFS", c.Get("fs.defaultFS")
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "hdfs" || u.Host == "" {
		return nil, "", fmt.Errorf("conf: %q is no HDFS; one looks like hdfs://namenode:8020", uri)
	}
	name := u.Hostname()
	if u.Port() != "" || !slices.Contains(c.Strings("dfs.nameservices"), name) {
		a, err := withPort(said, u.Host, "8020")
		return []string{a}, a, err
	}
	ids := c.Strings("dfs.ha.namenodes." + name)
	if len(ids) == 0 {
		key := "dfs.namenode.rpc-address." + name
		a, err := withPort(key, c.Get(key), "8020")
		return []string{a}, a, err
	}
	for _, id := range ids {
		key := "dfs.namenode.rpc-address." + name + "." + id
		a, err := withPort(key, c.Get(key), "8020")
		if err != nil {
			return nil, "", err
		}
		addresses = append(addresses, a)
	}
	return addresses, "ha-hdfs:" + name, nil
}

// Secure tells whether the cluster wants Kerberos.
func (c *Conf) Secure() bool {
	return strings.EqualFold(c.Get("hadoop.security.authentication"), "kerberos")
}

// Principal gives a service's principal, such as that of yarn.resourcemanager.principal, with _HOST replaced by
// host, in lower case as Hadoop has it.
func (c *Conf) Principal(key, host string) string {
	return strings.Replace(c.Get(key), "/_HOST@", "/"+strings.ToLower(host)+"@", 1)
}
