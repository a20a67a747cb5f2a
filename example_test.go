package pidfile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/go-pidfile/pidfile"
)

// tempRun makes a directory for the PID files of an example. A service has /run.
func tempRun() string {
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

func Example() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "backup.pid")

	f, err := pidfile.Acquire(path)
	if err != nil {
		log.Fatal(err) // acquire /run/backup.pid: already running: PID 812
	}
	defer f.Release()

	fmt.Println("the only one")
	// Output: the only one
}

func ExampleAcquire() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "backup.pid")

	f, err := pidfile.Acquire(path)
	fmt.Println("first:", err)

	_, err = pidfile.Acquire(path)
	fmt.Println("second:", errors.Is(err, pidfile.ErrAlreadyRunning))

	fmt.Println("release:", f.Release())
	// Output:
	// first: <nil>
	// second: true
	// release: <nil>
}

// Wait for the one that runs to end, but not for ever.
func ExampleAcquireContext() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "backup.pid")
	running, _ := pidfile.Acquire(path)
	defer running.Release()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := pidfile.AcquireContext(ctx, path)

	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	fmt.Println(errors.Is(err, pidfile.ErrAlreadyRunning))
	// Output:
	// true
	// true
}

func ExampleDo() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "backup.pid")

	err := pidfile.Do(context.Background(), path, func(context.Context) error {
		fmt.Println("backing up, alone")
		return nil
	})
	fmt.Println(err)
	// Output:
	// backing up, alone
	// <nil>
}

// A file that only its owner and group may read.
func ExampleConfig() {
	run := tempRun()
	defer os.RemoveAll(run)
	config := pidfile.Config{Mode: 0o640}

	f, err := config.Acquire(filepath.Join(run, "backup.pid"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Release()

	info, _ := os.Stat(f.Path())
	fmt.Println(info.Mode())
	// Output: -rw-r-----
}

func ExampleAlreadyRunningError() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "backup.pid")
	first, _ := pidfile.Acquire(path)
	defer first.Release()

	_, err := pidfile.Acquire(path)

	var running *pidfile.AlreadyRunningError
	if errors.As(err, &running) {
		fmt.Println("it is us:", running.PID == os.Getpid())
		fmt.Println("locked:", running.Locked)
	}
	// Output:
	// it is us: true
	// locked: true
}

// A supervisor records the process that does the work.
func ExampleFile_SetPID() {
	run := tempRun()
	defer os.RemoveAll(run)
	f, err := pidfile.Acquire(filepath.Join(run, "backup.pid"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Release()

	worker := 812 // cmd.Process.Pid, of a command that was started
	if err := f.SetPID(worker); err != nil {
		log.Fatal(err)
	}
	text, _ := os.ReadFile(f.Path())
	fmt.Printf("%q\n", text)
	// Output: "812\n"
}

// An administrator cleans up /run, and the next start would not see us.
func ExampleFile_Lost() {
	run := tempRun()
	defer os.RemoveAll(run)
	f, err := pidfile.Acquire(filepath.Join(run, "backup.pid"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Release()

	go os.Remove(f.Path())

	<-f.Lost()
	fmt.Println("lost")
	switch err := f.Restore(); {
	case err == nil:
		fmt.Println("restored")
	case errors.Is(err, pidfile.ErrLost):
		fmt.Println("another one has started: stop here")
	}
	// Output:
	// lost
	// restored
}

func ExampleFile_Restore() {
	run := tempRun()
	defer os.RemoveAll(run)
	f, err := pidfile.Acquire(filepath.Join(run, "backup.pid"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Release()

	os.Remove(f.Path())
	fmt.Println(f.Restore())

	_, err = pidfile.Acquire(f.Path())
	fmt.Println(errors.Is(err, pidfile.ErrAlreadyRunning))
	// Output:
	// <nil>
	// true
}

// Read tells what the text says, in any program's PID file. Whether it is true
// is for Inspect to say.
func ExampleRead() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "postmaster.pid")
	os.WriteFile(path, []byte("812\n/var/lib/postgresql\n5432\n"), 0o600)
	fmt.Println(pidfile.Read(path))

	os.WriteFile(path, []byte("-1\n"), 0o600)
	_, err := pidfile.Read(path)
	fmt.Println(errors.Is(err, pidfile.ErrMalformed))
	// Output:
	// 812 <nil>
	// true
}
