package pidfile_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/go-pidfile/pidfile"
)

// serve is what the program does: it is the same for the first start and for
// one that takes over from its predecessor.
func serve(path string) {
	f, err := pidfile.Adopt(path)
	if errors.Is(err, pidfile.ErrNotInherited) {
		f, err = pidfile.Acquire(path)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer f.Release()

	pid, _ := pidfile.Read(path)
	fmt.Println("the new one is in the file:", pid == os.Getpid())
}

// The new version of the program is here the same one, told what it is to do.
func init() {
	if path := os.Getenv("EXAMPLE_SERVE"); path != "" {
		serve(path)
		os.Exit(0)
	}
}

// A program starts its new version and hands it the PID file.
func ExampleFile_HandOff() {
	run := tempRun()
	defer os.RemoveAll(run)
	f, err := pidfile.Acquire(filepath.Join(run, "server.pid"))
	if err != nil {
		log.Fatal(err)
	}

	next := exec.Command(os.Args[0])
	next.Env = append(os.Environ(), "EXAMPLE_SERVE="+f.Path())
	next.Stdout = os.Stdout
	if err := f.HandOff(next); err != nil {
		log.Fatal(err)
	}
	if err := next.Start(); err != nil {
		log.Fatal(err)
	}

	<-f.Lost()
	if errors.Is(f.Err(), pidfile.ErrHandedOff) {
		fmt.Println("handed over")
	}
	fmt.Println("release:", f.Release()) // leaves the file to the new one
	fmt.Println("the new one ends:", next.Wait())
	// Unordered output:
	// the new one is in the file: true
	// handed over
	// release: <nil>
	// the new one ends: <nil>
}

// The beginning of a program that may be started by its predecessor.
func ExampleAdopt() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "server.pid")

	f, err := pidfile.Adopt(path)
	if errors.Is(err, pidfile.ErrNotInherited) {
		f, err = pidfile.Acquire(path) // the first start
	}
	if err != nil {
		log.Fatal(err)
	}
	defer f.Release()

	fmt.Println("the only one")
	// Output: the only one
}
