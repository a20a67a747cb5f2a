//go:build !linux

package proc

import (
	"errors"
	"time"
)

// Lookup knows nothing here.
func Lookup(pid int) (Info, error) { return Info{PID: pid}, errors.ErrUnsupported }

func Parent(int) int { return 0 }

// HiddenWhy says why a process that lives cannot be looked up.
func HiddenWhy() string { return errors.ErrUnsupported.Error() }

func sameExe(int, string) bool { return false }

// ReadClock reads the clocks; there is none since boot.
func ReadClock() Clock { return Clock{Now: time.Now()} }

func Opened(int, ID) (open bool, locks []Lock, err error) {
	return false, nil, errors.ErrUnsupported
}

func Secluded(string) bool { return false }

// A LockTable has no gaps: whether a file is locked is asked by locking it here.
type LockTable struct {
	Err  error
	Gaps Gaps
}

func ReadLocks() *LockTable               { return new(LockTable) }
func (t *LockTable) On(ID, string) []Lock { return nil }
func (t *LockTable) Openers(ID) []Opener  { return nil }

// Way is for acting on a process, which is not supported here.
func Way(string) ([]Element, error) { return nil, errors.ErrUnsupported }

func HasEnv(int, string) bool { return false }

// InUserNamespace is for Way.
func InUserNamespace() bool { return false }

// HasACL is not known here.
func HasACL(string) bool { return false }
