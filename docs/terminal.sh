#!/usr/bin/env bash
# Draws docs/terminal.svg, the picture of a terminal in README.md:
#
#	docs/terminal.sh >docs/terminal.svg
#
# It shows what the command of this clone prints now (see docs/session.sh), cut at
# 88 columns as a terminal does. $PIDFILE_BIN is the directory of one that is built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${PIDFILE_BIN-}
if [ -z "$bin" ]; then
	bin=$(mktemp -d)
	trap 'rm -rf "$bin"' EXIT
	CGO_ENABLED=0 go build -o "$bin/pidfile" ./cmd/pidfile
fi

PATH=$bin:$PATH docs/session.sh <<'SESSION' | perl -e '
	my ($columns, $line, $wide, @rows) = (88, 20, 8.43);
	while (<STDIN>) {
		chomp;
		my $kind = /^\$ / ? "in" : "out";
		push @rows, [$kind, substr($_, 0, $columns, "")] while length;
	}
	my ($w, $h) = (int($columns * $wide) + 40, @rows * $line + 62);
	print qq(<svg xmlns="http://www.w3.org/2000/svg" width="$w" height="$h" viewBox="0 0 $w $h" role="img" aria-label="A terminal session with pidfile">\n);
	print qq(<style>text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }\n);
	print qq(.in { fill: #fff; font-weight: bold } .prompt { fill: #7ee787 } .out { fill: #c9d1d9 }</style>\n);
	print qq(<rect x="0.5" y="0.5" width="@{[$w - 1]}" height="@{[$h - 1]}" rx="8" fill="#161b22" stroke="#6e7681"/>\n);
	my $x = 20;
	print qq(<circle cx="@{[$x + 18 * $_]}" cy="20" r="6" fill="#484f58"/>\n) for 0 .. 2;
	my $y = 54;
	for (@rows) {
		my ($kind, $text) = @$_;
		my $columns = length $text;
		$text =~ s/&/&amp;/g; $text =~ s/</&lt;/g; $text =~ s/>/&gt;/g;
		$text =~ s/^\$/<tspan class="prompt">\$<\/tspan>/ if $kind eq "in";
		my $length = sprintf "%.0f", $columns * $wide;
		print qq(<text x="20" y="$y" class="$kind" textLength="$length" xml:space="preserve">$text</text>\n);
		$y += $line;
	}
	print "</svg>\n";
'
pidfile run job.pid -- sleep 600 &
pidfile run job.pid -- sleep 600
pidfile status job.pid
pidfile stop job.pid
pidfile run job.pid -- echo starts
SESSION
