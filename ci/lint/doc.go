// Package lint holds the laws of this tree as tests: `go test ./ci/lint`.
//
//	LINT-1: rooms import each other only in the directions of docs/architecture.md (imports_test.go).
//	LINT-2: the root package rt stays small: neither head nor agent nor placement comes with it.
//	LINT-3: what we depend on is listed, with where it may be used and why (depend_test.go).
//	LINT-4: every package has exactly one doc comment (shape_test.go).
//	LINT-5: no file is longer than 1000 lines; one over 500 is listed with its reason.
//	LINT-6: no package and no file is called util, common, helpers or manager.
//	LINT-7: tests don't sleep on the wall clock outside ci/e2e (sleep_test.go).
//	LINT-8: programs are started by the keeper; whoever else starts one is listed (programs_test.go).
//	LINT-9: generated code is what the schema gives, everything is as gofmt writes it, and vet is silent.
//	LINT-10: links in the documents resolve, the licence is there, and no text names the machine or
//	        the registries that the tree was built with (text_test.go).
//	LINT-11: cores decide without clock, chance, goroutines and I/O (pure_test.go).
//	LINT-12: what a core decides never hangs on the order of a map (order_test.go).
//	LINT-13: every code that users see is in a table of docs/spec/errors.md (codes_test.go).
//	LINT-14: at most five tests are in quarantine, each with its cause (quarantine_test.go).
//	LINT-15: an invariant that a package names is cited by a test (invariants_test.go).
//	LINT-16: nothing stands at the top of the tree but what is named here (top_test.go).
//
// A list of exceptions is part of its law: an entry that nothing needs any more fails, too.
//
// staticcheck.sh runs the staticcheck that tools/go.mod pins; `make check` calls it.
//
// The tests read files and run the go command; they need neither the network nor a git history.
package lint
