//go:build !linux

package watch

func file(string) *Watch      { return nil }
func directory(string) *Watch { return nil }
