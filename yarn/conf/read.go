package conf

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

const maxIncludes = 20

// Files are what Load reads, in this order.
var Files = []string{"core-site.xml", "hdfs-site.xml", "yarn-site.xml"}

// Dir finds the folder of Hadoop's configuration: HADOOP_CONF_DIR, YARN_CONF_DIR, HADOOP_HOME/etc/hadoop,
// /etc/hadoop/conf, /etc/hadoop: the first that is set, or that exists. getenv is os.Getenv if it is nil.
func Dir(getenv func(string) string) (string, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	for _, name := range []string{"HADOOP_CONF_DIR", "YARN_CONF_DIR"} {
		if d := getenv(name); d != "" {
			if _, err := os.Stat(d); err != nil {
				return "", fmt.Errorf("conf: %s: %w", name, err)
			}
			return d, nil
		}
	}
	var tried []string
	if home := getenv("HADOOP_HOME"); home != "" {
		tried = append(tried, filepath.Join(home, "etc", "hadoop"))
	}
	for _, d := range append(tried, "/etc/hadoop/conf", "/etc/hadoop") {
		if _, err := os.Stat(filepath.Join(d, "core-site.xml")); err == nil {
			return d, nil
		}
	}
	return "", errors.New("conf: no Hadoop configuration here: set HADOOP_CONF_DIR to the folder with core-site.xml and yarn-site.xml")
}

// Find reads the configuration that Dir finds.
func Find(getenv func(string) string) (*Conf, error) {
	dir, err := Dir(getenv)
	if err != nil {
		return nil, err
	}
	return Load(dir)
}

// Load reads the files of a folder. One that is missing is skipped; if all are, that is an error.
func Load(dir string) (*Conf, error) {
	c := New()
	found := 0
	for _, name := range Files {
		err := c.AddFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*includeError)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found++
	}
	if found == 0 {
		return nil, fmt.Errorf("conf: %s has none of %s", dir, strings.Join(Files, ", "))
	}
	return c, nil
}

// includeError keeps a missing include apart from a missing file.
type includeError struct{ error }

func (e *includeError) Unwrap() error { return e.error }

// AddFile reads one more file.
func (c *Conf) AddFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("conf: %w", err)
	}
	defer f.Close()
	return c.read(f, path, 0)
}

// AddXML reads one more file's content; name is for errors and relative includes.
func (c *Conf) AddXML(r io.Reader, name string) error { return c.read(r, name, 0) }

// property is one of a file, in either of its forms.
type property struct {
	name, value string
	has, final  bool
}

// read takes a file's properties in. The root element must be configuration, as in Hadoop.
func (c *Conf) read(r io.Reader, name string, depth int) error {
	if depth > maxIncludes {
		return fmt.Errorf("conf: %s: includes are nested more than %d deep; does a file include itself?", name, maxIncludes)
	}
	d := decoder(r)
	for {
		token, err := d.Token()
		if err == io.EOF {
			return fmt.Errorf("conf: %s: there is no <configuration> in it", name)
		}
		if err != nil {
			return fmt.Errorf("conf: %s: %w", name, err)
		}
		if start, ok := token.(xml.StartElement); ok {
			if start.Name.Local != "configuration" {
				return fmt.Errorf("conf: %s: it begins with <%s>, not <configuration>", name, start.Name.Local)
			}
			return c.elements(d, name, depth, true)
		}
	}
}

// elements reads what is inside of a configuration, or of a fallback. Without use it is only skipped.
func (c *Conf) elements(d *xml.Decoder, name string, depth int, use bool) error {
	for {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("conf: %s: %w", name, err)
		}
		switch token := token.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			switch token.Name.Local {
			case "property":
				p, err := readProperty(d, token)
				if err != nil {
					return fmt.Errorf("conf: %s: %w", name, err)
				}
				if use {
					c.take(p, name)
				}
			case "configuration":
				if err := c.elements(d, name, depth, use); err != nil {
					return err
				}
			case "include":
				if err := c.include(d, token, name, depth, use); err != nil {
					return err
				}
			default:
				if err := d.Skip(); err != nil {
					return fmt.Errorf("conf: %s: %w", name, err)
				}
			}
		}
	}
}

// include reads <xi:include href="..."/>; its fallback counts if the file is not there.
func (c *Conf) include(d *xml.Decoder, start xml.StartElement, name string, depth int, use bool) error {
	href := ""
	for _, a := range start.Attr {
		if a.Name.Local == "href" {
			href = a.Value
		}
	}
	missing := error(nil)
	if use {
		path, err := included(href, name)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			missing = &includeError{fmt.Errorf("conf: %s includes what can't be read: %w", name, err)}
		} else {
			err = c.read(f, path, depth+1)
			f.Close()
			if err != nil {
				return err
			}
		}
	}
	for {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("conf: %s: %w", name, err)
		}
		switch token := token.(type) {
		case xml.EndElement:
			return missing
		case xml.StartElement:
			if token.Name.Local != "fallback" {
				if err := d.Skip(); err != nil {
					return fmt.Errorf("conf: %s: %w", name, err)
				}
				continue
			}
			if err := c.elements(d, name, depth, missing != nil); err != nil {
				return err
			}
			missing = nil
		}
	}
}

// included is the path of what is included: beside the file that includes it.
func included(href, name string) (string, error) {
	u, err := url.Parse(href)
	if err != nil || href == "" || u.Scheme != "" && u.Scheme != "file" {
		return "", fmt.Errorf("conf: %s: can't include %q: only files are", name, href)
	}
	if filepath.IsAbs(u.Path) {
		return u.Path, nil
	}
	return filepath.Join(filepath.Dir(name), u.Path), nil
}

// readProperty reads <property><name/><value/><final/></property>, or the same as attributes.
func readProperty(d *xml.Decoder, start xml.StartElement) (p property, err error) {
	set := func(name, text string) {
		switch name {
		case "name":
			p.name = strings.TrimSpace(text)
		case "value":
			p.value, p.has = text, true
		case "final":
			p.final = strings.TrimSpace(text) == "true"
		}
	}
	for _, a := range start.Attr {
		set(a.Name.Local, a.Value)
	}
	for {
		token, err := d.Token()
		if err != nil {
			return p, err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return p, nil
		case xml.StartElement:
			var text string
			if err := d.DecodeElement(&text, &token); err != nil {
				return p, err
			}
			set(token.Name.Local, text)
		}
	}
}

// take puts a property in (CONF-1).
func (c *Conf) take(p property, source string) {
	if p.name == "" || !p.has {
		return
	}
	name := p.name
	if now, old := deprecated[name]; old {
		name = now
	}
	if c.values[name].final {
		return
	}
	c.values[name] = setting{p.value, source, p.final}
}
