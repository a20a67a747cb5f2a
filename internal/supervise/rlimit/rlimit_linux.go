//go:build amd64 || arm64

package rlimit

// get reads RLIMIT_NOFILE into limit and returns 0 or an error number.
//
//go:noescape
func get(limit *[2]uint64) (errno int64)

func init() { Known = get(&NoFile) == 0 }
