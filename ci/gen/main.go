package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
)

const (
	wireDir   = "transport/wire"
	wireFile  = wireDir + "/wire.fbs"
	frameFile = wireDir + "/frame.fbs"
	fbDir     = wireDir + "/fb"
	viewFile  = "transport/work/view_gen.go"

	pythonFile = "libs/python/maniple/_core/frames.py"
)

func main() {
	check := flag.Bool("check", false, "compare with what is checked in, write nothing")
	again := flag.Bool("flatc", false, "with -check: run flatc too")
	root := flag.String("root", ".", "the repository's root")
	flag.Parse()
	var err error
	if *check {
		err = verify(*root, *again)
	} else {
		err = generate(*root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ours maps each path that this program itself makes to its content.
func ours(root string) (map[string][]byte, error) {
	wire, err := os.ReadFile(filepath.Join(root, wireFile))
	if err != nil {
		return nil, fmt.Errorf("gen: %w", err)
	}
	frame, err := os.ReadFile(filepath.Join(root, frameFile))
	if err != nil {
		return nil, fmt.Errorf("gen: %w", err)
	}
	s, err := load(wire, frame)
	if err != nil {
		return nil, err
	}
	stamp := hash(wire, frame)
	out := map[string][]byte{}
	for path, emit := range map[string]func(*schema, string) ([]byte, error){
		wireDir + "/limits_gen.go":   emitLimits,
		wireDir + "/registry_gen.go": emitRegistry,
		wireDir + "/verify_gen.go":   emitVerify,
		wireDir + "/pack_gen.go":     emitPack,
		wireDir + "/fill_gen.go":     emitFill,
		wireDir + "/hot_gen.go":      emitHot,
		wireDir + "/frames.h":        emitC,
		pythonFile:                   emitPython,
		viewFile:                     emitView,
	} {
		if out[path], err = emit(s, stamp); err != nil {
			return nil, fmt.Errorf("gen: %s: %w", path, err)
		}
	}
	return out, nil
}

func generate(root string) error {
	files, err := ours(root)
	if err != nil {
		return err
	}
	fb, err := runFlatc(root)
	if err != nil {
		return err
	}
	stamp, err := fbDoc(root, fb)
	if err != nil {
		return err
	}
	fb["doc.go"] = stamp
	for name, text := range fb {
		files[fbDir+"/"+name] = text
	}
	old, err := filepath.Glob(filepath.Join(root, fbDir, "*.go"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if _, ok := fb[filepath.Base(path)]; !ok {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("gen: stale output: %w", err)
			}
		}
	}
	for _, path := range sorted(files) {
		if err := write(filepath.Join(root, path), files[path]); err != nil {
			return err
		}
	}
	return nil
}

// write leaves a file that already is as it should be alone, so that builds stay cached.
func write(path string, text []byte) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("gen: %w", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("gen: %w", err)
	}
	fmt.Println("wrote", path)
	return nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
