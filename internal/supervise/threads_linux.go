package supervise

import (
	"runtime"
	"sync"
)

// threads is how many threads that run Go code supervision can need at once: the one
// that waits for COMMAND, one that is free, and two that hang, in putting the file back
// and in telling of it. With fewer the runtime was seen to start one when it could not.
//
// Each costs about 0.1 ms of CPU, which is what there is to save here: the signals that
// we catch cost next to nothing.
const threads = 4

// startThreads has the runtime start all threads that it can need, so that it needs
// to start none when COMMAND has used up what its user or the container may have:
// it would die of that, and as PID 1 all with it.
//
// The runtime keeps the threads that it once had, but for those that end with a
// goroutine which is locked to them, and it runs Go code in no more than GOMAXPROCS.
func startThreads(n int) {
	if runtime.GOMAXPROCS(0) > 1 {
		runtime.GOMAXPROCS(1)
	}
	var all, done sync.WaitGroup
	all.Add(n)
	done.Add(n)
	for range n {
		go func() {
			runtime.LockOSThread() // which starts the thread that starts threads, too
			all.Done()
			all.Wait() // so each has one of its own
			runtime.UnlockOSThread()
			done.Done()
		}()
	}
	done.Wait()
}
