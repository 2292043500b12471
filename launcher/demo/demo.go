// Package demo carries the training program of `maniple demo`, so that one binary without a checkout
// can show a gang at work. The program needs Python with numpy and nothing else.
package demo

import _ "embed"

// Program is the Python source.
//
//go:embed demo.py
var Program []byte
