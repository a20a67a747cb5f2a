//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package lock

import (
	"context"
	"errors"
	"os"
	"time"
)

// On these systems nothing is promised and nothing is done: every way in
// returns errors.ErrUnsupported.

type file struct{ path string }

func (h *Hold) Prepare(path string) { h.file, h.fd, h.ro = file{path}, -1, -1 }

func (h *Hold) unsupported(op string) error { return h.pathError(op, errors.ErrUnsupported) }

func (h *Hold) Acquire(*Options) (Refusal, error) {
	return Refusal{}, h.unsupported("acquire")
}

func (h *Hold) Wait(context.Context, *Options) error { return h.unsupported("acquire") }
func (h *Hold) Check() error                         { return h.unsupported("check") }
func (h *Hold) HandedOff() bool                      { return false }
func (h *Hold) Record(int) error                     { return h.unsupported("record") }
func (h *Hold) Renew() error                         { return h.unsupported("restore") }
func (h *Hold) Release() error                       { return h.unsupported("release") }

func (h *Hold) Inherit() (lock, handoffLock *os.File, err error) {
	return nil, nil, h.unsupported("inherit")
}

func (h *Hold) Adopt([]Pair, int) (int, error) { return -1, h.unsupported("adopt") }

func ReadText(path string) ([]byte, error) {
	h := Hold{file: file{path}}
	return nil, h.unsupported("read")
}

func Peek(string, func(int, time.Time) bool) Refusal { return Refusal{} }

// Path returns the path that the file is to have.
func (p *Pending) Path() string { return p.file.path }

func (p *Pending) Write(int) error { return errors.ErrUnsupported }

func Free(string) bool { return false }

func Look(path string) (View, error) {
	h := Hold{file: file{path}}
	return View{}, h.unsupported("open")
}

func LookDirect(path string) (View, error) { return Look(path) }

func RemoveDirect(path string, stale func(View) error) error { return Remove(path, stale) }

func Remove(path string, _ func(View) error) error {
	h := Hold{file: file{path}}
	return h.unsupported("clean")
}

func WaitFree(_ context.Context, path string) error {
	h := Hold{file: file{path}}
	return h.unsupported("wait")
}
