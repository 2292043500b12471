package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/agent"
)

// value is n bytes.
func value(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// writes makes a file, in pieces as files of values are written.
func writes(s *Store, name string, v []byte) error {
	w, err := s.Create(name)
	if err != nil {
		return err
	}
	for b := range slices.Chunk(v, 700) {
		if _, err = w.Write(b); err != nil {
			break
		}
	}
	return errors.Join(err, w.Close())
}

// reads gives a part of a file; ahead: it is said before how much it will be.
func reads(s *Store, name string, from, n, step int, ahead bool) ([]byte, error) {
	r, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if ahead {
		r.(*reader).Ahead(int64(from), int64(n))
	}
	got := make([]byte, n)
	for at := 0; at < n; at += step {
		if _, err := r.ReadAt(got[at:min(at+step, n)], int64(from+at)); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// What is written is there when it is closed, small in one request and large in parts, and is read by as many requests as it takes.
func TestFiles(t *testing.T) {
	f := newFake(t)
	s := f.store(t)
	small, large := value(300), value(9500)
	if err := errors.Join(writes(s, "c/1/1", small), writes(s, "c/1/2", large), writes(s, "c/2/3", small), writes(s, "c/1/exact", large[:2000])); err != nil {
		t.Fatal(err)
	}
	if n := f.requests("partNumber="); n != 12 {
		t.Errorf("%d parts", n)
	}
	if !bytes.Equal(f.objects["and/there/c/1/2"], large) || !bytes.Equal(f.objects["and/there/c/1/exact"], large[:2000]) {
		t.Error("what was written in parts is something else")
	}
	before := f.requests("GET /here/and/there/c/1/2")
	if got, err := reads(s, "c/1/2", 1234, 5000, 1000, true); err != nil || !bytes.Equal(got, large[1234:6234]) {
		t.Errorf("%v", err)
	}
	if n := f.requests("GET /here/and/there/c/1/2") - before; n != 1 {
		t.Errorf("%d requests for what was said before", n)
	}
	if got, err := reads(s, "c/1/1", 0, 300, 100, false); err != nil || !bytes.Equal(got, small) {
		t.Errorf("%v", err)
	}
	r, _ := s.Open("c/1/2")
	if n, err := r.Size(); n != 9500 || err != nil {
		t.Error(n, err)
	}
	if _, err := r.ReadAt(make([]byte, 10), 9495); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("past the end: %v", err)
	}
	if names, err := s.List("c/1", "", 0); err != nil || !slices.Equal(names, []string{"1", "2", "exact"}) {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := s.List("c", "", 0); err != nil || !slices.Equal(names, []string{"1", "2"}) {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := s.List("nowhere", "", 0); err != nil || len(names) > 0 {
		t.Errorf("%q, %v", names, err)
	}
	if err := errors.Join(s.Remove("c/1/1"), s.Remove("c/1/1")); err != nil || f.objects["and/there/c/1/1"] != nil {
		t.Error(err)
	}
	f.uploads["and/there/c/1/half"] = map[int][]byte{1: small} // its process died
	f.uploads["and/there/c2/half"] = map[int][]byte{1: small}
	if err := s.RemoveAll("c/1"); err != nil || len(f.objects) != 1 || len(f.uploads) != 1 {
		t.Errorf("%v; left %v", err, f.sorted("", false))
	}
	if _, err := reads(s, "c/1/2", 0, 10, 10, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Of a prefix that others use, too, what begins with something is listed, and no more than is wanted: so no request goes by what is not.
func TestListOfSome(t *testing.T) {
	f := newFake(t)
	s := f.store(t)
	for i := range 40 {
		f.objects[fmt.Sprintf("and/there/data/%d", i)], f.objects[fmt.Sprintf("and/there/x%d", i)] = []byte("x"), []byte("x")
		f.objects[fmt.Sprintf("and/there/maniple-%02d/1/1", i)] = []byte("x")
	}
	names, err := s.List("", "maniple-", 3)
	if n := f.requests("list-type"); err != nil || len(names) < 3 || names[0] != "maniple-00" || n != 2 { // two names at a time
		t.Errorf("%q, %v, by %d requests", names, err, n)
	}
	if names, err := s.List("", "maniple-", 0); err != nil || len(names) != 40 {
		t.Errorf("%q, %v", names, err)
	}
}

// A folder is emptied by several requests at once, and while it is listed.
func TestRemovalsGoTogether(t *testing.T) {
	f := newFake(t)
	s := f.store(t)
	s.patience, s.silence = time.Minute, 20*time.Second // a machine may be slow
	const files = 20
	for i := range files {
		f.objects[fmt.Sprintf("and/there/c/%02d", i)] = []byte("x")
	}
	f.objects["and/there/c2"] = []byte("x")
	var mu sync.Mutex
	now, most := 0, 0
	together := make(chan struct{})
	f.faulty(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != "POST" {
			return false
		}
		mu.Lock()
		now++
		if most = max(most, now); now == removers {
			close(together)
		}
		mu.Unlock()
		select {
		case <-together:
		case <-time.After(5 * time.Second): // and then it is seen that they were not
		}
		mu.Lock()
		now -= removers + 1 // nobody closes it again
		mu.Unlock()
		return false
	})
	if err := s.RemoveAll("c"); err != nil || len(f.objects) != 1 || most != removers {
		t.Errorf("%v, %d requests at once, left %v", err, most, f.sorted("", false))
	}
	f.faulty(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" {
			fails(w, 403, "AccessDenied")
		}
		return r.Method == "POST"
	})
	for i := range files {
		f.objects[fmt.Sprintf("and/there/c/%02d", i)] = []byte("x")
	}
	if err := s.RemoveAll("c"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v", err)
	}
}

// Each answer is told apart, and said with what to do; no credential is in it. What is worth it is asked again.
func TestAnswers(t *testing.T) {
	f := newFake(t)
	for name, c := range map[string]struct {
		status int
		code   string
		times  int // that it is answered so; 0: always
		header string
		want   []string
		is     error
	}{
		"busy":         {503, "SlowDown", 2, "", nil, nil},
		"broken":       {500, "InternalError", 1, "", nil, nil},
		"always":       {503, "SlowDown", 0, "", []string{"answers 503", "SlowDown", "s3://here/and/there", f.url}, nil},
		"bucket":       {404, "NoSuchBucket", 0, "", []string{`no bucket "here"`}, os.ErrNotExist},
		"forbidden":    {403, "AccessDenied", 0, "", []string{"may not do that", "AccessDenied"}, os.ErrPermission},
		"key":          {403, "InvalidAccessKeyId", 0, "", []string{"refuses the credentials", "AWS_PROFILE"}, os.ErrPermission},
		"region":       {301, "PermanentRedirect", 0, "eu-west-9", []string{"AWS_REGION=eu-west-9"}, nil},
		"other region": {400, "AuthorizationHeaderMalformed", 0, "", []string{"AWS_REGION"}, nil},
		"full":         {507, "XMinioStorageFull", 0, "", []string{"no room"}, unix.EDQUOT},
		"quota":        {403, "QuotaExceeded", 0, "", []string{"quota"}, unix.EDQUOT},
		"clock":        {403, "RequestTimeTooSkewed", 0, "", []string{"clock"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			f.faulty(func(w http.ResponseWriter, _ *http.Request) bool {
				if n++; c.times > 0 && n > c.times {
					return false
				}
				if c.header != "" {
					w.Header().Set("X-Amz-Bucket-Region", c.header)
				}
				fails(w, c.status, c.code)
				return true
			})
			s := f.store(t)
			s.patience = time.Second
			err := writes(s, "x", value(100))
			if c.times > 0 {
				if err != nil || n != c.times+1 {
					t.Errorf("%d requests, %v", n, err)
				}
				return
			}
			if err == nil || c.is != nil && !errors.Is(err, c.is) || strings.Contains(err.Error(), secret) {
				t.Fatalf("%v", err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in %q", w, err)
				}
			}
			refused := !errors.Is(err, unix.EDQUOT) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) && c.status < 500
			if errors.Is(err, agent.ErrSpillRefused) != refused {
				t.Errorf("%v is a refusal: %v", err, !refused)
			}
			if again := n > 1; again != (c.status == 503) {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// A clock that is wrong is not the end: the server says its own time.
func TestClock(t *testing.T) {
	f := newFake(t)
	const ahead = 3 * time.Hour
	f.faulty(func(w http.ResponseWriter, r *http.Request) bool {
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		if err != nil || time.Until(signed) < ahead-time.Minute {
			fails(w, 403, "RequestTimeTooSkewed")
			return true
		}
		return false
	})
	if err := writes(f.store(t), "x", value(100)); err != nil {
		t.Error(err)
	}
}

// A server that is there and says nothing, or goes on and on without coming to an end, is not waited for any longer than that.
func TestSilence(t *testing.T) {
	f := newFake(t)
	s := f.store(t)
	if err := writes(s, "x", value(5000)); err != nil {
		t.Fatal(err)
	}
	s.patience, s.silence = 300*time.Millisecond, 100*time.Millisecond
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	for name, fault := range map[string]fault{
		"silent": func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-over:
			case <-r.Context().Done():
			}
			return true
		},
		"slow": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", "4000")
			w.Header().Set("Content-Range", "bytes 0-3999/5000")
			w.WriteHeader(206)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					if _, err := w.Write([]byte{1}); err != nil || http.NewResponseController(w).Flush() != nil {
						return true
					}
				case <-over:
					return true
				case <-r.Context().Done():
					return true
				}
			}
		},
	} {
		f.faulty(fault)
		began := time.Now()
		_, err := reads(s, "x", 0, 4000, 1000, true)
		if took := time.Since(began); err == nil || took > 5*time.Second || !strings.Contains(err.Error(), "s3://here/and/there") {
			t.Errorf("%s: after %v: %v", name, took, err)
		}
		began = time.Now()
		if err := writes(s, "y", value(2500)); name == "silent" && (err == nil || time.Since(began) > 5*time.Second) {
			t.Errorf("%s: after %v: %v", name, time.Since(began), err)
		}
	}
}

// Once is not always: a connection that falls silent is cut long before the patience is over, and what it was for is asked again.
func TestSilentOnce(t *testing.T) {
	f := newFake(t)
	s := f.store(t)
	s.patience, s.silence = time.Minute, 100*time.Millisecond
	over := make(chan struct{})
	var n atomic.Int32
	t.Cleanup(func() { close(over) })
	f.faulty(func(_ http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > 1 {
			return false
		}
		select {
		case <-over:
		case <-r.Context().Done():
		}
		return true
	})
	began := time.Now()
	if err := writes(s, "x", value(100)); err != nil || n.Load() != 2 || time.Since(began) > 10*time.Second {
		t.Errorf("%v, %d requests, after %v", err, n.Load(), time.Since(began))
	}
}

// What breaks in the middle goes on: a file that is read, and the last word on one that was written.
func TestBreaks(t *testing.T) {
	f := newFake(t)
	s := f.store(t)
	v := value(5000)
	if err := writes(s, "x", v); err != nil {
		t.Fatal(err)
	}
	n := 0
	f.faulty(func(w http.ResponseWriter, r *http.Request) bool {
		if n++; r.Method == "GET" && n < 4 { // a bit of what it should
			w.Header().Set("Content-Length", "4000")
			f.gives(&torn{w, 900}, r, v)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	if got, err := reads(s, "x", 100, 4000, 1000, true); err != nil || !bytes.Equal(got, v[100:4100]) || n != 4 {
		t.Errorf("%v, by %d requests", err, n)
	}
	lost := 0
	f.faulty(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" && r.URL.Query().Has("uploadId") && lost == 0 { // it is done, and nobody is told
			lost++
			f.faulty(nil)
			f.ServeHTTP(&torn{w, 0}, r)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	if err := writes(s, "y", v); err != nil || lost != 1 || !bytes.Equal(f.objects["and/there/y"], v) {
		t.Errorf("%v, %d", err, lost)
	}
	f.faulty(func(w http.ResponseWriter, r *http.Request) bool { // one part is refused
		if r.URL.Query().Get("partNumber") == "2" {
			fails(w, 403, "AccessDenied")
			return true
		}
		return false
	})
	if err := writes(s, "z", v); !errors.Is(err, os.ErrPermission) || f.objects["and/there/z"] != nil || len(f.uploads) > 0 {
		t.Errorf("%v; left %v", err, f.uploads)
	}
}

// torn lets so many bytes of an answer through.
type torn struct {
	http.ResponseWriter
	left int
}

// Write is http.ResponseWriter's.
func (w *torn) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	w.left -= n
	_, _ = w.ResponseWriter.Write(b[:n])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	return len(b), nil
}

// What keeps a store from being asked at all is said before, or at the first question.
func TestSettings(t *testing.T) {
	f := newFake(t)
	for _, uri := range []string{"s3://", "s3:///x", "hdfs://here", "s3://ali:" + secret + "@here/x"} {
		if _, err := OpenSpill(uri); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	t.Setenv("AWS_PROFILE", "other")
	if _, err := OpenSpill("s3://here"); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("a profile that is not there: %v", err)
	}
	home := os.Getenv("HOME")
	profile := "[profile other]\nregion = eu-west-9\nendpoint_url = " + f.url + "\naws_access_key_id = ali\naws_secret_access_key = " + secret + "\n"
	if err := os.WriteFile(home+"/config", []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	s, err := OpenSpill("s3://here")
	if err != nil || s.client.Options().Region != "eu-west-9" || writes(s, "x", value(10)) != nil || f.objects["x"] == nil {
		t.Errorf("by a profile: %v, %v", err, f.objects)
	}
	if err := s.RemoveAll(""); err == nil || f.objects["x"] == nil {
		t.Errorf("all of a bucket: %v", err)
	}
	settings(t, f.url)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		os.Unsetenv(name)
	}
	unknown := f.store(t)
	unknown.patience = time.Minute
	if err := writes(unknown, "x", value(10)); err == nil || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("%v", err)
	}
	settings(t, "")
	os.Unsetenv("AWS_ENDPOINT_URL")
	if _, err := OpenSpill("s3://here"); err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("no region: %v", err)
	}
}
