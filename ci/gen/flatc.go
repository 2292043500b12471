package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// flatcVersion is the version of the module that go.mod pins; flatc must say the same.
const flatcVersion = "25.12.19"

const flatcModule = "github.com/google/flatbuffers"

var flatcArgs = []string{"--go", "--gen-object-api"}

// runFlatc gives flatc's Go files by base name, formatted.
func runFlatc(root string) (map[string][]byte, error) {
	flatc, err := findFlatc(root)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "maniple-gen-")
	if err != nil {
		return nil, fmt.Errorf("gen: %w", err)
	}
	defer os.RemoveAll(tmp)
	args := append(append([]string{}, flatcArgs...), "-o", tmp, filepath.Join(root, wireFile))
	if out, err := exec.Command(flatc, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gen: flatc: %w: %s", err, bytes.TrimSpace(out))
	}
	paths, err := filepath.Glob(filepath.Join(tmp, "fb", "*.go"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, errors.New("gen: flatc made no file in package fb; does wire.fbs still say namespace fb?")
	}
	files := map[string][]byte{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("gen: %w", err)
		}
		if text, err = format.Source(text); err != nil {
			return nil, fmt.Errorf("gen: flatc's %s: %w", filepath.Base(path), err)
		}
		files[filepath.Base(path)] = text
	}
	return files, nil
}

// findFlatc gives the path of the right flatc, and builds it when the cache has none.
func findFlatc(root string) (string, error) {
	cache, err := os.UserCacheDir() // $XDG_CACHE_HOME, else ~/.cache
	if err != nil {
		return "", fmt.Errorf("gen: no cache folder for flatc: %w", err)
	}
	path := filepath.Join(cache, "maniple", "flatc-"+flatcVersion)
	if isFlatc(path) == nil {
		return path, nil
	}
	if err := buildFlatc(root, path); err != nil {
		return "", err
	}
	return path, isFlatc(path)
}

func isFlatc(path string) error {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return fmt.Errorf("gen: %s: %w", path, err)
	}
	if want := "flatc version " + flatcVersion; strings.TrimSpace(string(out)) != want {
		return fmt.Errorf("gen: %s says %q, not %q", path, bytes.TrimSpace(out), want)
	}
	return nil
}

// buildFlatc compiles flatc from the module's sources. It takes a minute or two, once.
func buildFlatc(root, path string) error {
	if _, err := exec.LookPath("cmake"); err != nil {
		return fmt.Errorf("gen: flatc %s is not in %s and can't be built without cmake and a C++ compiler: %w", flatcVersion, path, err)
	}
	// Not `go list -m`, which gives no directory while the module is not in the cache yet.
	download := exec.Command("go", "mod", "download", "-json", flatcModule)
	download.Dir = root
	out, err := download.Output()
	var module struct{ Version, Dir, Error string }
	if jsonErr := json.Unmarshal(out, &module); err != nil || jsonErr != nil {
		return fmt.Errorf("gen: go mod download %s: %w: %s", flatcModule, errors.Join(err, jsonErr), module.Error)
	}
	if module.Version != "v"+flatcVersion+"+incompatible" {
		return fmt.Errorf("gen: go.mod gives %s %q, this generator is for %s; change flatcVersion with go.mod", flatcModule, module.Version, flatcVersion)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("gen: %w", err)
	}
	build, err := os.MkdirTemp(filepath.Dir(path), "flatc-build-")
	if err != nil {
		return fmt.Errorf("gen: %w", err)
	}
	defer os.RemoveAll(build)
	fmt.Fprintln(os.Stderr, "building flatc", flatcVersion, "(once; a minute or two)")
	for _, args := range [][]string{
		{"-S", module.Dir, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DFLATBUFFERS_BUILD_TESTS=OFF", "-DFLATBUFFERS_BUILD_FLATHASH=OFF", "-DFLATBUFFERS_INSTALL=OFF"},
		{"--build", build, "--target", "flatc", "--parallel", "2"},
	} {
		if out, err := exec.Command("cmake", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("gen: cmake %s: %w\n%s", strings.Join(args, " "), err, tail(out, 2000))
		}
	}
	// Renamed into place, so that a build that was cut off leaves no half flatc behind.
	return os.Rename(filepath.Join(build, "flatc"), path)
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}
