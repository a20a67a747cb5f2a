//go:build !unix

package main

func terminal(uintptr) bool { return false }

func terminalWidth(uintptr) int { return 80 }

func mayDraw(uintptr) bool { return true }

func inForeground() bool { return false }
