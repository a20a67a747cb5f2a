// Worker is one process that uses one peer, as its standard input tells it:
//
//	cycle PATH N     acquires and releases N times       took NS
//	refused PATH N   is refused N times                  took NS
//	try PATH AT      acquires, or fails at once, at AT   ok NS, held PID
//	wait PATH        acquires, blocking                  ok NS
//	release          releases what it has                released NS
//
// It answers each with the line on the right, or with "error TEXT". Times are of
// CLOCK_MONOTONIC, which all processes share: "ok" tells when the file was ours,
// "released" when the release began.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-pidfile/pidfile/bench/peers"
	"golang.org/x/sys/unix"
)

func main() {
	lock, err := peers.Named(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	w := worker{lock: lock}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := w.do(strings.Fields(lines.Text()))
		if held, ok := errors.AsType[*peers.Held](err); ok {
			answer = fmt.Sprint("held ", held.PID)
		} else if err != nil {
			answer = fmt.Sprint("error ", err)
		}
		os.Stdout.WriteString(answer + "\n")
	}
}

type worker struct {
	lock    *peers.Lock
	release peers.Release
}

func (w *worker) do(words []string) (answer string, err error) {
	switch words[0] {
	case "cycle":
		took, err := w.cycle(words[1], number(words[2]))
		return fmt.Sprint("took ", took.Nanoseconds()), err
	case "refused":
		took, err := w.refused(words[1], number(words[2]))
		return fmt.Sprint("took ", took.Nanoseconds()), err
	case "try":
		for at := int64(number(words[2])); now() < at; {
		}
		return w.acquire(w.lock.Acquire, words[1])
	case "wait":
		return w.acquire(w.lock.Wait, words[1])
	case "release":
		began := now()
		return fmt.Sprint("released ", began), w.release()
	}
	return "", fmt.Errorf("no command %q", words)
}

func (w *worker) acquire(acquire func(string) (peers.Release, error), path string) (string, error) {
	release, err := acquire(path)
	at := now()
	if err != nil {
		return "", err
	}
	w.release = release
	return fmt.Sprint("ok ", at), nil
}

// cycle times n acquisitions and releases.
func (w *worker) cycle(path string, n int) (time.Duration, error) {
	acquire := w.lock.Acquire
	if acquire == nil {
		acquire = w.lock.Wait
	}
	began := time.Now()
	for range n {
		release, err := acquire(path)
		if err != nil {
			return 0, err
		}
		if err := release(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// refused times n refusals.
func (w *worker) refused(path string, n int) (time.Duration, error) {
	began := time.Now()
	for range n {
		_, err := w.lock.Acquire(path)
		if _, ok := err.(*peers.Held); !ok {
			return 0, fmt.Errorf("not refused: %v", err)
		}
	}
	return time.Since(began), nil
}

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err) // the driver's mistake
	}
	return n
}
