//go:build !unix

package supervise

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/go-pidfile/pidfile/internal/lock"
)

// Here is no lock, and so nothing to supervise. What does not need one does what it
// can.

type system struct{}

func (s *Supervisor) catch() error              { return errors.ErrUnsupported }
func (s *Supervisor) start(*lock.Pending) error { return errors.ErrUnsupported }
func (s *Supervisor) wait(func()) bool          { return false }
func (s *Supervisor) stop()                     {}
func (s *Supervisor) cancel() []syscall.Signal  { return nil }
func raise([]syscall.Signal)                    {}
func reap(int) (int, error)                     { return 0, errors.ErrUnsupported }

func (c *Command) Exec(int) error                    { return errors.ErrUnsupported }
func (c *Command) StartDetached() (*exec.Cmd, error) { return nil, errors.ErrUnsupported }

func NewSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func OpenLog(path string, _ *Account, flags int) (*os.File, error) {
	return os.OpenFile(path, flags, 0o644)
}

func ParseSignal(string) (syscall.Signal, error) { return 0, errors.ErrUnsupported }

func SignalName(sig syscall.Signal) string { return sig.String() }

func RedirectStderr(*os.File) {}
func CloseOnExec(int)         {}
func CloseOthersOnExec()      {}
func EndBySignals()           {}
func SurvivePipe()            { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
func InForeground(int) bool   { return true }
func OnOthersTerminal() bool  { return false }
