// Package nm starts, looks at and stops containers, at the NodeManagers on which they were granted.
//
// The nouns: a Client speaks to any number of NodeManagers for one ApplicationMaster, with the tokens
// that package am received. There is one connection per node, made when it is needed and closed after 10 s
// without calls.
//
// Guarantees:
//
//	NM-1: a call fails or succeeds for each container by itself, with the NodeManager's own words.
//	NM-2: to start a container again that this master started is no error: a call whose answer was lost is repeated.
//	NM-3: a NodeManager that is just starting is asked again until the call's context ends.
//
// Limits: no changes of a running container, no restarts in place, no signals.
package nm
