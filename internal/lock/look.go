package lock

import "time"

// A View is what can be seen of a PID file without taking a lock. (On systems
// without F_OFD_GETLK a shared lock is taken for an instant.)
type View struct {
	ID      ID
	Mode    uint32 // permission bits
	UID     int
	GID     int
	Links   uint64
	Written time.Time
	// OtherClock: the file system may have the clock of another machine, so Written
	// cannot be compared with anything of ours.
	OtherClock bool
	PID        int   // 0 if the text is malformed
	Empty      bool  // the file has no text at all
	Minus      int   // the PID behind a minus sign, if that is the text
	TextErr    error // why the text could not be read, nil if it was
	// NotPIDFile says why this cannot be a PID file at all, "" if it can.
	NotPIDFile string
	// OFDLocked: the file has the holder's OFD lock or another fcntl lock, and Owner
	// is the PID of that lock's owner where there is one.
	OFDLocked bool
	Owner     int
	// OFDErr is why this file system or system cannot tell that, nil if it can.
	OFDErr error
}
