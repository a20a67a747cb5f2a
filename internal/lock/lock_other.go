//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package lock

import (
	"context"
	"errors"
	"os"
	"time"
)

// On these systems nothing is promised and nothing is done: every function that could
// fail returns errors.ErrUnsupported.

type (
	file    struct{ path string }
	handoff struct{}
)

func unsupported(op, path string) error {
	h := Hold{file: file{path}}
	return h.pathError(op, errors.ErrUnsupported)
}

func (h *Hold) prepare(path string) { h.file, h.fd, h.ro = file{path}, -1, -1 }

func (h *Hold) acquire(*Options) (Refusal, error) {
	return Refusal{}, unsupported("acquire", h.Path())
}

func (h *Hold) wait(context.Context, *Options) error { return unsupported("acquire", h.Path()) }
func (h *Hold) check() error                         { return unsupported("check", h.Path()) }
func (h *Hold) recordPID(int) error                  { return unsupported("record", h.Path()) }
func (h *Hold) renew(*Options) error                 { return unsupported("restore", h.Path()) }
func (h *Hold) release() error                       { return unsupported("release", h.Path()) }
func (h *Hold) adopt([]Pair, int) (int, error)       { return -1, unsupported("adopt", h.Path()) }
func (h *Hold) handedOff() bool                      { return false }

func (h *Hold) handOff() (lock, handoffLock *os.File, err error) {
	return nil, nil, unsupported("hand off", h.Path())
}

func (p *Pending) write([]byte) error                      { return errors.ErrUnsupported }
func (p *Pending) names() (at int, name, from string)      { return -1, "", "" }
func readText(path string) ([]byte, error)                 { return nil, unsupported("read", path) }
func peek(string, func(int, time.Time) bool) Refusal       { return Refusal{} }
func free(string) bool                                     { return false }
func look(path string, _ bool) (View, error)               { return View{}, unsupported("open", path) }
func remove(path string, _ bool, _ func(View) error) error { return unsupported("clean", path) }
func waitFree(_ context.Context, path string) error        { return unsupported("wait", path) }
