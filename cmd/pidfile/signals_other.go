//go:build !unix

package main

import "syscall"

// passed: no signals here.
var passed []syscall.Signal

const stopKey = syscall.Signal(-1)
