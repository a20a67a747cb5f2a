//go:build !libbsd

package peers

// libbsdAcquire needs the build tag libbsd, which bench/run sets for one worker
// if libbsd-dev is installed.
var libbsdAcquire func(path string) (Release, error)
