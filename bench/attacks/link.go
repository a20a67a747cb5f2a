package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const precious = "precious\n"

// link makes the path a link of some kind to something else.
func link(kind string) func(*cell) finding {
	return func(c *cell) finding {
		c.works()
		target := filepath.Join(c.dir, "target")
		if kind != "dangling" {
			check(os.WriteFile(target, []byte(precious), 0o640))
		}
		if kind == "hardlink" {
			check(os.Link(target, c.path))
		} else {
			check(os.Symlink(target, c.path))
		}
		before := describe(target)
		next := c.try()
		if next.hangs() {
			return judge(false, "**hangs**", next.how())
		}
		during := describe(target)
		next.finish()
		after := describe(target)
		evidence := []string{
			fmt.Sprintf("the target: before %s, during %s, after %s", before, during, after),
			next.how(),
		}
		_, ran := next.entered()
		switch {
		case during == before && after == before:
			return judge(true, pick(ran, "intact, runs", "intact, refused"), evidence...)
		case kind == "dangling":
			return judge(false, "**creates it**", evidence...)
		}
		return judge(false, "**overwrites**", evidence...)
	}
}

// describe says what is at the path: existence, mode and text.
func describe(path string) string {
	fi, err := os.Lstat(path)
	if err != nil {
		return "nothing"
	}
	text := must(os.ReadFile(path))
	return fmt.Sprintf("%v %q", fi.Mode(), text)
}
