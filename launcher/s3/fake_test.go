package s3

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault may answer in the place of a fake; true: it did.
type fault func(w http.ResponseWriter, r *http.Request) bool

// fake is a server of one bucket, "here".
type fake struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	fault   fault
	objects map[string][]byte
	uploads map[string]map[int][]byte // by key
	asked   []string                  // method and query of each request
}

const secret = "sesame"

// newFake starts it, and points the environment to it.
func newFake(t *testing.T) *fake {
	f := &fake{t: t, objects: map[string][]byte{}, uploads: map[string]map[int][]byte{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	f.url = server.URL
	settings(t, f.url)
	return f
}

// settings are all that the environment says, but for a home without anything.
func settings(t *testing.T, endpoint string) {
	home := t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "AWS_CONFIG_FILE": home + "/config", "AWS_SHARED_CREDENTIALS_FILE": home + "/credentials", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_ENDPOINT_URL": endpoint, "AWS_ENDPOINT_URL_S3": "", "AWS_ACCESS_KEY_ID": "ali", "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "", "AWS_CA_BUNDLE": "",
		"AWS_EC2_METADATA_DISABLED": "true", "HTTP_PROXY": "", "http_proxy": "",
	} {
		t.Setenv(name, value)
	}
}

// store opens a store of it that is not patient.
func (f *fake) store(t *testing.T) *Store {
	t.Helper()
	s, err := OpenSpill("s3://here/and/there")
	if err != nil {
		t.Fatal(err)
	}
	s.patience, s.silence, s.part = 2*time.Second, time.Second, 1000
	return s
}

// faulty has requests go to a fault first.
func (f *fake) faulty(now fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = now
}

// requests counts those so far that have a text in them.
func (f *fake) requests(with string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if strings.Contains(a, with) {
			n++
		}
	}
	return n
}

func fails(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>of the test</Message></Error>", code)
}

// ServeHTTP is http.Handler's.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.URL.Path+"?"+r.URL.RawQuery)
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	sum := sha256.Sum256(body)
	switch {
	case err != nil:
		return
	case bucket != "here":
		fails(w, 404, "NoSuchBucket")
		return
	case r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]):
		f.t.Errorf("%s %s is not signed with the hash of its bytes", r.Method, r.URL)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	switch part, _ := strconv.Atoi(q.Get("partNumber")); {
	case r.Method == "GET" && key == "" && q.Has("uploads"):
		var list strings.Builder
		for _, k := range f.sorted(q.Get("prefix"), true) {
			fmt.Fprintf(&list, "<Upload><Key>%s</Key><UploadId>u</UploadId></Upload>", k)
		}
		fmt.Fprintf(w, "<ListMultipartUploadsResult>%s</ListMultipartUploadsResult>", list.String())
	case r.Method == "GET" && key == "":
		f.list(w, q.Get("prefix"), q.Get("delimiter"), q.Get("continuation-token"))
	case r.Method == "POST" && q.Has("delete"):
		var d struct{ Object []struct{ Key string } }
		if err := xml.Unmarshal(body, &d); err != nil {
			f.t.Error(err)
		}
		for _, o := range d.Object {
			delete(f.objects, o.Key)
		}
		fmt.Fprint(w, "<DeleteResult></DeleteResult>")
	case r.Method == "POST" && q.Has("uploads"):
		f.uploads[key] = map[int][]byte{}
		fmt.Fprint(w, "<R><UploadId>u</UploadId></R>")
	case q.Has("uploadId") && f.uploads[key] == nil:
		fails(w, 404, "NoSuchUpload")
	case r.Method == "POST" && q.Has("uploadId"):
		var c struct {
			Part []struct {
				PartNumber int
				ETag       string
			}
		}
		_ = xml.Unmarshal(body, &c)
		var all []byte
		for _, p := range c.Part {
			if p.ETag != strconv.Itoa(p.PartNumber) {
				f.t.Errorf("part %d has tag %q", p.PartNumber, p.ETag)
			}
			all = append(all, f.uploads[key][p.PartNumber]...)
		}
		f.objects[key] = all
		delete(f.uploads, key)
		fmt.Fprint(w, "<R></R>")
	case r.Method == "PUT" && part > 0:
		f.uploads[key][part] = body
		w.Header().Set("ETag", strconv.Itoa(part))
	case r.Method == "PUT":
		f.objects[key] = body
	case r.Method == "DELETE" && q.Has("uploadId"):
		delete(f.uploads, key)
	case r.Method == "DELETE":
		delete(f.objects, key)
		w.WriteHeader(204)
	case f.objects[key] == nil:
		fails(w, 404, "NoSuchKey")
	default:
		f.gives(w, r, f.objects[key])
	}
}

// gives answers with a range, as S3 does and nobody else has to.
func (f *fake) gives(w http.ResponseWriter, r *http.Request, b []byte) {
	from, to := 0, len(b)-1
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n > 0 {
		if from >= len(b) {
			fails(w, 416, "InvalidRange")
			return
		}
		to = min(to, len(b)-1)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(b)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(to+1-from))
	if r.Method == "GET" {
		_, _ = w.Write(b[from : to+1])
	}
}

func (f *fake) sorted(prefix string, uploads bool) (keys []string) {
	if uploads {
		for k := range f.uploads {
			keys = append(keys, k)
		}
	} else {
		for k := range f.objects {
			keys = append(keys, k)
		}
	}
	keys = slices.DeleteFunc(keys, func(k string) bool { return !strings.HasPrefix(k, prefix) })
	slices.Sort(keys)
	return keys
}

// list gives two names at a time.
func (f *fake) list(w http.ResponseWriter, prefix, delimiter, after string) {
	var out []string
	for _, k := range f.sorted(prefix, false) {
		text := "<Contents><Key>" + k + "</Key></Contents>"
		if folder, _, found := strings.Cut(k[len(prefix):], "/"); found && delimiter != "" {
			k = prefix + folder + "/"
			text = "<CommonPrefixes><Prefix>" + k + "</Prefix></CommonPrefixes>"
		}
		if k > after && !slices.Contains(out, text) {
			out = append(out, text)
		}
		if len(out) == 2 {
			out = append(out, "<IsTruncated>true</IsTruncated><NextContinuationToken>"+k+"</NextContinuationToken>")
			break
		}
	}
	fmt.Fprintf(w, "<ListBucketResult>%s</ListBucketResult>", strings.Join(out, ""))
}
