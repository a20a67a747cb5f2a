//go:build libbsd

package peers

/*
#cgo LDFLAGS: -lbsd
#include <stdlib.h>
#include <bsd/libutil.h>
*/
import "C"

import (
	"syscall"
	"unsafe"
)

func libbsdAcquire(path string) (Release, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var other C.pid_t
	h, err := C.pidfile_open(name, 0o644, &other)
	if h == nil {
		if err == syscall.EEXIST {
			return nil, &Held{max(0, int(other))}
		}
		return nil, err
	}
	if rc, err := C.pidfile_write(h); rc != 0 {
		return nil, err
	}
	return func() error {
		if rc, err := C.pidfile_remove(h); rc != 0 {
			return err
		}
		return nil
	}, nil
}
