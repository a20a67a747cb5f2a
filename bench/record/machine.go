package record

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Here describes this machine. What it does not tell is left empty.
func Here() Machine {
	m := Machine{Go: runtime.Version(), CPUs: runtime.NumCPU(), Memory: "tmpfs"}
	m.Kernel = Output("uname", "-srm")
	m.Libc = Output("getconf", "GNU_LIBC_VERSION")
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
		}
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		m.MemoryMiB = int(uint64(s.Totalram) * uint64(s.Unit) >> 20)
		m.LoadBefore = float64(s.Loads[0]) / 65536
	}
	return m
}

// FileSystem names the kind that a folder is on.
func FileSystem(dir string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	switch uint32(s.Type) {
	case unix.TMPFS_MAGIC:
		return "tmpfs", nil
	case unix.EXT4_SUPER_MAGIC:
		return "ext4", nil
	case unix.XFS_SUPER_MAGIC:
		return "xfs", nil
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs", nil
	}
	return fmt.Sprintf("type %#x", s.Type), nil
}

// Output is what a command says, "" if it cannot tell.
func Output(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
