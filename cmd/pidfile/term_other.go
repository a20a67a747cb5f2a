//go:build !unix

package main

func terminal(uintptr) bool { return false }

func terminalSize(uintptr) (width, height int) { return 80, 24 }

func inForeground() bool { return false }
