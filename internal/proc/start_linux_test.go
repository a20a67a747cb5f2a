package proc

import (
	"fmt"
	"testing"
	"time"
)

// The start of a process after a long uptime does not fit into 32 bits, and that of
// one which is older than our time namespace (time_namespaces(7)) is below zero,
// which the kernel prints as a number of 64 bits.
func TestParseStart(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		ticks string
		want  time.Duration
	}{
		{"0", 0},
		{"12345", 123450 * time.Millisecond},
		{"2147483648", 21474836480 * time.Millisecond},
		{"3456000000", 400 * day},
		{"1844674047370", -time.Hour}, // 1<<64 ns less an hour
	} {
		var i Info
		i.parseStat(fmt.Appendf(nil, "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %s 0 0", c.ticks))
		if diff := (i.Start - c.want).Abs(); diff > time.Second/userHZ {
			t.Errorf("%s ticks: %v, want %v", c.ticks, i.Start, c.want)
		}
	}
}

func TestName(t *testing.T) {
	for _, c := range []struct{ comm, cmdline, name, args string }{
		{"nginx", "nginx: master process /usr/sbin/nginx -c /etc/nginx/nginx.conf\x00", "nginx", "[nginx: master process /usr/sbin/nginx -c /etc/nginx/nginx.conf]"},
		{"php-fpm8.2", "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)      \x00\x00\x00\x00", "php-fpm8.2", "[php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)]"},
		{"sshd", "sshd: /usr/sbin/sshd -f /etc/ssh/sshd_config [listener] 0 of 10-100 startups\x00", "sshd", "[sshd: /usr/sbin/sshd -f /etc/ssh/sshd_config [listener] 0 of 10-100 startups]"},
		{"cat", "/bin/cat\x00a b\x00", "cat", "[/bin/cat a b]"},
		{"sleep", "sleep\x009\x00", "sleep", "[sleep 9]"},
		{"(sd-pam)", "(sd-pam)\x00", "(sd-pam)", "[(sd-pam)]"},
		{"kworker/0:1", "", "", "[]"},
	} {
		var i Info
		i.parseStat(fmt.Appendf(nil, "7 (%s) S 1 7 7 0", c.comm))
		i.parseArgs(c.cmdline)
		if got := fmt.Sprint(i.Args); i.Name() != c.name || got != c.args {
			t.Errorf("%q: name %q, args %s", c.cmdline, i.Name(), got)
		}
	}
}
