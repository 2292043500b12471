//go:build cgo

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/native"
)

var rewrite = flag.Bool("rewrite", false, "write symbols.h anew")

// moduleDir is where the sources of go-nvml are.
var moduleDir = sync.OnceValue(func() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml").Output()
	if err != nil {
		panic(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "pkg", "nvml")
})

// A function of NVML that go-nvml calls and symbols.h lacks would be looked for by the linker, and not be found.
func TestSymbols(t *testing.T) {
	sources, err := filepath.Glob(filepath.Join(moduleDir(), "*.go"))
	if err != nil || len(sources) == 0 {
		t.Fatal("no sources of go-nvml", err)
	}
	var names []string
	for _, path := range sources {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`C\.(nvml\w+)\(`).FindAllSubmatch(text, -1) {
			if name := string(m[1]); name != "nvmlErrorString" { // which gives a text
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	want := "// Code generated from go-nvml by `go test ./launcher/cmd/maniple-native -run Symbols -rewrite`. DO NOT EDIT.\n"
	for _, name := range slices.Compact(names) {
		want += "NVML(" + name + ")\n"
	}
	if *rewrite {
		if err := os.WriteFile("symbols.h", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("symbols.h"); err != nil || string(got) != want {
		t.Errorf("symbols.h is not what go-nvml calls (-rewrite writes it): %v", err)
	}
}

// They pass on six registers and no more.
func TestFunctionsTakeSixArguments(t *testing.T) {
	header, err := os.ReadFile(filepath.Join(moduleDir(), "nvml.h"))
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`nvmlReturn_t\s+DECLDIR\s+(\w+)\s*\(([^)]*)\)`).FindAllSubmatch(header, -1)
	for _, f := range all {
		args := strings.Split(string(f[2]), ",")
		if len(args) > 6 || slices.ContainsFunc(args, func(a string) bool {
			return !strings.Contains(a, "*") && regexp.MustCompile(`\b(float|double)\b`).MatchString(a)
		}) {
			t.Errorf("%s(%s) can't be passed on as stubs.c does", f[1], f[2])
		}
	}
	if len(all) < 300 {
		t.Errorf("%d functions were found in nvml.h", len(all))
	}
}

// built gives the program and a directory with the stand-in for the driver's library.
var built = sync.OnceValues(func() (program, libraries string) {
	dir, err := os.MkdirTemp("", "maniple-native-")
	if err != nil {
		panic(err)
	}
	builtIn = dir
	program = filepath.Join(dir, native.Name)
	for _, argv := range [][]string{
		{"go", "build", "-o", program, "."},
		{"cc", "-shared", "-fPIC", "-DNVML_NO_UNVERSIONED_FUNC_DEFS=1", "-I", moduleDir(), "-o", filepath.Join(dir, "libnvidia-ml.so.1"), "testdata/nvml.c"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			panic(string(out))
		}
	}
	return program, dir
})

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if builtIn != "" {
		os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

var builtIn string // a directory; "": nothing was built

// client asks a program with a driver that fails as how says.
func client(t *testing.T, how string) (*native.Client, *bytes.Buffer) {
	t.Helper()
	program, libraries := built()
	t.Setenv("LD_LIBRARY_PATH", libraries)
	t.Setenv("FAKE_NVML", how)
	var log bytes.Buffer
	c := &native.Client{Path: program, Log: slog.New(slog.NewTextHandler(&log, nil))}
	t.Cleanup(c.Close)
	return c, &log
}

func ask(t *testing.T, c *native.Client, id string) (d native.Devices) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	text, err := c.Ask(ctx, "devices", id)
	if err != nil {
		t.Fatal(err)
	}
	reply := struct{ Devices *native.Devices }{&d}
	if err := json.Unmarshal(text, &reply); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// All that a driver tells arrives, in order of the bus; what it lacks is -1 or nothing.
func TestDevicesOfADriver(t *testing.T) {
	c, _ := client(t, "")
	got := ask(t, c, "")
	first := native.GPU{ID: "GPU-0", Model: "NVIDIA Fake-40GB", Minor: 0, PCI: "0000:3b:00.0", Compute: "9.0", Memory: 40 << 30, Used: 1 << 30,
		Busy: 97, MemoryBusy: 31, Temperature: 61, Power: 399.5, PowerLimit: -1, Links: []native.Link{{To: "GPU-1", NVLink: 4, Path: "SYS"}}}
	second := native.GPU{ID: "GPU-1", Model: "NVIDIA Fake-41GB", Minor: 1, PCI: "0000:3c:00.0", Compute: "9.0", Memory: 40 << 30, Used: 2 << 30,
		Busy: 96, MemoryBusy: 31, Temperature: 61, Power: 399.5, PowerLimit: -1, Errors: 2, Slowed: []string{"far too hot"},
		Trouble: []string{"2 memory errors that could not be corrected since the driver was loaded", "rows of its memory are replaced with the next reset"},
		Links:   []native.Link{{To: "GPU-0", NVLink: 4, Path: "SYS"}}}
	if want := (native.Devices{Driver: "470.1", GPUs: []native.GPU{first, second}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	first.Links, second.Links = nil, nil
	for id, want := range map[string][]native.GPU{"GPU-1": {second}, "0000:3b:00.0,MIG-x": {first}, "GPU-7": nil} {
		if got := ask(t, c, id).GPUs; !reflect.DeepEqual(got, want) {
			t.Errorf("of %s came %+v, want %+v", id, got, want)
		}
	}
}

// No library, and one that does not begin, are answers and not ends.
func TestWithoutADriver(t *testing.T) {
	c, _ := client(t, "begin")
	if got := ask(t, c, ""); got.Error != "NVML does not begin: Driver Not Loaded" {
		t.Errorf("%+v", got)
	}
	c, _ = client(t, "")
	t.Setenv("LD_LIBRARY_PATH", "")
	if got := ask(t, c, ""); !strings.HasPrefix(got.Error, "NVML can't be loaded: libnvidia-ml.so.1") {
		t.Errorf("%+v", got)
	}
}

// A driver that crashes costs an answer and one line, and rests then (NATIVE-3).
func TestDriverThatCrashes(t *testing.T) {
	c, log := client(t, "crash")
	_, err := c.Ask(t.Context(), "devices", "")
	if err == nil || !strings.Contains(err.Error(), "maniple-native: ") {
		t.Fatal(err)
	}
	began := time.Now()
	if _, again := c.Ask(t.Context(), "devices", ""); again == nil || again.Error() != err.Error() || time.Since(began) > time.Second {
		t.Errorf("asked again: %v", again)
	}
	c.Close()
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "SIGSEGV") && !strings.Contains(log.String(), "segmentation") {
		t.Errorf("%d lines of log:\n%s", n, log)
	}
}

// A driver that hangs costs as long as the asker has (NATIVE-1).
func TestDriverThatHangs(t *testing.T) {
	c, _ := client(t, "hang")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := c.Ask(ctx, "devices", ""); err == nil || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("%v", err)
	}
}
