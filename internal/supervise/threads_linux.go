package supervise

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads supervision can need at once besides the one that
// waits: one that runs Go code, and those that hang in putting the file back, in a
// lock and in telling of it.
const spareThreads = 4

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
