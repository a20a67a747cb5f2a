package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-pidfile/pidfile/bench/peers"
	"github.com/go-pidfile/pidfile/bench/record"
)

// A place is a folder on one kind of file system.
type place struct{ name, dir string }

// find makes a folder in memory and one on a disk.
func (b *bench) find(disk string) error {
	if disk == "" {
		disk = "/var/tmp"
	}
	for _, p := range []place{{"tmpfs", "/dev/shm"}, {"disk", disk}} {
		kind, err := record.FileSystem(p.dir)
		if err != nil {
			return err
		}
		if (kind == "tmpfs") != (p.name == "tmpfs") {
			return fmt.Errorf("%s is on %s: choose another folder for %q with -disk", p.dir, kind, p.name)
		}
		dir, err := os.MkdirTemp(p.dir, "pidfile-bench-")
		if err != nil {
			return err
		}
		b.places = append(b.places, place{p.name, dir})
	}
	b.run.Machine = record.Here()
	b.run.Machine.Disk, _ = record.FileSystem(disk) // it was told above
	if b.python != "" {
		b.run.Machine.Python = record.Output(b.python, "-c", "import platform; print(platform.python_version())")
	}
	return nil
}

func (b *bench) leave() {
	for _, p := range b.places {
		_ = os.RemoveAll(p.dir) // it is temporary anyway
	}
}

// memory is the folder on tmpfs, where everything is but what says "disk".
func (b *bench) memory(name string) string { return filepath.Join(b.places[0].dir, name) }

// listPeers notes who takes part, and their versions.
func (b *bench) listPeers() {
	modules := map[string]string{}
	for _, program := range []string{b.tool("worker"), os.Args[0]} {
		if info, err := buildinfo.ReadFile(program); err == nil {
			for _, m := range info.Deps {
				modules[m.Path] = m.Version
			}
		}
	}
	version := func(of string) string {
		switch {
		case of == "":
			return ""
		case of == peers.Python:
			return "Python " + b.run.Machine.Python
		case strings.Contains(of, "/"):
			return modules[of]
		}
		return record.Output("dpkg-query", "-W", "-f", "${Version}", of)
	}
	add := func(p record.Peer) { b.run.Peers = append(b.run.Peers, p) }
	for i := range peers.Locks {
		if l := &peers.Locks[i]; b.available(l) {
			add(record.Peer{Name: l.Name, Version: version(l.Module), Detail: l.Detail})
		}
	}
	for _, i := range peers.Identities {
		add(record.Peer{Name: i.Name, Version: version(i.Module), Detail: i.Asks})
	}
	for _, s := range peers.Scans {
		add(record.Peer{Name: s.Name, Detail: s.Asks})
	}
	add(record.Peer{Name: floorWait, Detail: "the process of a PID"})
	add(record.Peer{Name: "pidfile wait", Detail: "the holder of the file, pinned and proven"})
	add(record.Peer{Name: "pidwait -F", Version: version("procps"), Detail: "the process whose PID is in the file"})
	for _, c := range b.installed() {
		add(record.Peer{Name: c.name, Version: version(c.pkg), Detail: c.detail, Command: true})
	}
}

// peer returns the entry of a peer.
func (b *bench) peer(name string) *record.Peer {
	for i := range b.run.Peers {
		if b.run.Peers[i].Name == name {
			return &b.run.Peers[i]
		}
	}
	panic("no peer " + name)
}
