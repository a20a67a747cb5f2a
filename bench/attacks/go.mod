module github.com/go-pidfile/pidfile/bench/attacks

go 1.26.0

replace github.com/go-pidfile/pidfile => ../..

require (
	github.com/docker/docker v28.5.2+incompatible
	github.com/go-pidfile/pidfile v0.0.0-00010101000000-000000000000
	github.com/gofrs/flock v0.13.2
	github.com/nightlyone/lockfile v1.0.0
	golang.org/x/sys v0.49.0
)
