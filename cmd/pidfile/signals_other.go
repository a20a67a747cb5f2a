//go:build !unix

package main

import "syscall"

// passed: no signals here.
var passed []syscall.Signal
