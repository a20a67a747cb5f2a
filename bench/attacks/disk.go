package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fullDisk puts the path on a file system without a free page.
func fullDisk(c *cell) finding {
	c.works()
	small := filepath.Join(c.dir, "small")
	check(os.Mkdir(small, 0o700))
	check(unix.Mount("tmpfs", small, "tmpfs", 0, "size=64k,mode=0700"))
	filler := filepath.Join(small, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		panic(fmt.Sprint("the disk is not full: ", err))
	}
	c.path = filepath.Join(small, "a.pid")

	first := c.try()
	_, ran := first.entered()
	if !ran && c.tool.detaches { // its exit code is not COMMAND's
		ran = eventually(time.Second, func() bool { _, in := first.entered(); return in })
	}
	failed := ran && first.hasEnded() && first.status.ExitStatus() != 0
	if first.hangs() {
		return judge(false, "**hangs**", first.how())
	}
	text := c.text()
	evidence := []string{first.how() + "; the file meanwhile: " + text}
	names := ran && (strings.Contains(text, fmt.Sprint(first.commandPID())) || strings.Contains(text, fmt.Sprint(first.process.pid)))
	second := false
	if ran {
		another := c.try()
		second = eventually(time.Second, func() bool { _, in := another.entered(); return in })
		evidence = append(evidence, "a second start: "+another.how())
		another.finish()
	}
	first.finish()
	left := c.text()
	check(os.Remove(filler))
	next := c.try()
	_, works := next.entered()
	evidence = append(evidence, "left: "+left, "with space again: "+next.how())
	switch {
	case second:
		return judge(false, "**2 at once**", evidence...)
	case failed:
		return judge(false, "**runs, says it failed**", evidence...)
	case ran && c.tool.hasPID && !names:
		return judge(false, "**no PID in it**", evidence...)
	case !works:
		return judge(false, "**refused later**", evidence...)
	}
	return judge(true, pick(ran, "locks", "refused"), evidence...)
}
