package main

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A witness notices if two have one path at once. It is memory that all processes
// share: a word a path that says who is inside, and a word a process that says
// that it has been killed, set before it was. It is no lock: at SIGKILL the kernel
// gives back the locks of a process in an order of its own.
type witness struct {
	words []byte
}

const (
	maxPaths     = 64
	maxWaiters   = 8 // for each
	maxProcesses = 1 << 16
	overlapWord  = maxPaths
	killedWords  = maxPaths + 1
)

// newWitness opens the shared memory, and makes it if it is not there.
func newWitness(path string) (*witness, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const size = (killedWords + maxProcesses) * 4
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	words, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &witness{words}, nil
}

func (w *witness) word(i int) *uint32 {
	return (*uint32)(unsafe.Pointer(&w.words[i*4]))
}

// A token is who is inside: the process, and one of its goroutines.
type token uint32

func newToken(process, goroutine int) token { return token(process<<12 | goroutine + 1) }

// enter notes that somebody has the path. Who is noted there already must have
// been killed.
func (w *witness) enter(path int, t token) {
	inside := atomic.SwapUint32(w.word(path), uint32(t))
	if inside != 0 && atomic.LoadUint32(w.word(killedWords+int(inside>>12))) == 0 {
		atomic.AddUint32(w.word(overlapWord), 1)
	}
}

// leave notes that he is about to release it.
func (w *witness) leave(path int, t token) {
	if !atomic.CompareAndSwapUint32(w.word(path), uint32(t), 0) {
		atomic.AddUint32(w.word(overlapWord), 1)
	}
}

// doomed notes that a process is about to be killed.
func (w *witness) doomed(process int) { atomic.StoreUint32(w.word(killedWords+process), 1) }

// clear forgets who was inside, between storms.
func (w *witness) clear() {
	for i := range maxPaths {
		atomic.StoreUint32(w.word(i), 0)
	}
}

func (w *witness) overlaps() int64 { return int64(atomic.LoadUint32(w.word(overlapWord))) }
