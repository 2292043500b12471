// Package env reads runtime environments and makes the files of them.
//
// A runtime environment is what workers are to have beside what their driver has: variables, a directory to run in, and
// modules. Directories and modules are packages: zip archives that are named by the SHA-256 of their bytes, so that a name says all. An SDK
// makes them and puts them into the job's directory on its node; agents pass them on, and unpack each once on a node. ADR 0016 has the
// whole way. What has to be installed (packages of pip, an image) is a text here, which the program that becomes the workers' template reads (ADR 0037).
//
// Here is what touches only files and texts, without goroutine or state: whoever calls it may be busy for as long as a disk takes.
package env
