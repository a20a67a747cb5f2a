//go:build !unix

package main

// signals are passed on Unix only.
type signals struct{}

func catch() *signals         { return nil }
func (s *signals) passTo(int) {}
func (s *signals) giveBack()  {}
