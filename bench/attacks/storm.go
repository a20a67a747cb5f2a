package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A tempest is one storm: it starts and kills. Its loops share the cell under a lock.
type tempest struct {
	c      *cell
	target string
	began  time.Time
	long   time.Duration

	mu            sync.Mutex
	starts, kills atomic.Int64
	holding       atomic.Int64 // kills while COMMAND ran
}

func storm(target string) func(*cell) finding {
	return func(c *cell) finding {
		if !c.tool.wrapper && target != "command" {
			return notApplicable("there is no wrapper: " + c.tool.kind())
		}
		long := 3 * time.Second
		if c.quick {
			long = 400 * time.Millisecond
		}
		s := &tempest{c: c, target: target, began: time.Now(), long: long}
		var loops sync.WaitGroup
		for range 4 {
			loops.Go(s.loop)
		}
		loops.Wait()
		return s.verdict()
	}
}

// kind says what the tool is if it is no wrapper.
func (t *tool) kind() string {
	switch {
	case t.library:
		return "the holder is the process itself"
	case t.detaches:
		return "it leaves COMMAND alone"
	}
	return "it becomes COMMAND"
}

// over waits for some kills that count, but not for ever.
func (s *tempest) over() bool {
	d := time.Since(s.began)
	return d > s.long && s.holding.Load() >= 5 || d > patience
}

func (s *tempest) loop() {
	for !s.over() {
		s.mu.Lock()
		i := s.c.launch(s.c.tool.start, plain, 5*time.Millisecond+rand.N(20*time.Millisecond))
		s.mu.Unlock()
		s.starts.Add(1)
		if rand.IntN(3) > 0 {
			s.attack(i)
		}
		if !i.wait(patience) {
			panic("does not end: " + i.how())
		}
		if !i.in() {
			time.Sleep(rand.N(3 * time.Millisecond)) // a loser
		}
	}
}

func (s *tempest) attack(i *instance) {
	if s.target == "wrapper" && rand.IntN(2) == 0 {
		time.Sleep(rand.N(10 * time.Millisecond)) // anywhere
		s.kill(i, i.process.pid)
		return
	}
	if !i.in() {
		return
	}
	time.Sleep(rand.N(10 * time.Millisecond))
	victims := []int{i.commandPID()}
	if s.target != "command" {
		victims = append(victims, i.process.pid)
	}
	if s.target == "wrapper" {
		victims = victims[1:]
	}
	rand.Shuffle(len(victims), func(a, b int) { victims[a], victims[b] = victims[b], victims[a] })
	s.kill(i, victims...)
}

func (s *tempest) kill(i *instance, pids ...int) {
	e, in := i.entered()
	running := in && alive(e.PID)
	hit := false
	for _, pid := range pids {
		hit = hit || alive(pid)
		kill(pid, unix.SIGKILL)
	}
	if hit {
		s.kills.Add(1)
	}
	if hit && running {
		s.holding.Add(1)
	}
}

func (s *tempest) verdict() finding {
	most, evidence := s.c.overlaps()
	evidence[0] = fmt.Sprintf("%d starts, %d SIGKILLs, %d of them while COMMAND ran: %s", s.starts.Load(), s.kills.Load(), s.holding.Load(), evidence[0])
	killAll()
	again := s.c.tryLong(3 * time.Second)
	_, restarts := again.entered()
	evidence = append(evidence, "after all were killed: "+again.how())
	switch {
	case most > 1:
		return judge(false, fmt.Sprintf("**%d at once**", most), evidence...)
	case !restarts:
		return judge(false, "**no restart**", evidence...)
	case s.holding.Load() == 0:
		panic(fmt.Sprint("no kill hit a running COMMAND: ", evidence))
	}
	return judge(true, "one, restarts", evidence...)
}
