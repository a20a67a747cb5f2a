#!/usr/bin/env bash
# Reads command lines and prints them with what they print, as on a terminal:
#
#	echo 'pidfile status job.pid' | PATH=/where/pidfile/is:$PATH docs/session.sh
#
# They run in an empty directory, which is called /run/app in the output. PIDs,
# durations and times are replaced by fixed ones, so that two sessions are equal.
# The console blocks of the documents and their picture come from here.
set -u

# The commands run below a pidfile of their own, which reaps what a killed wrapper
# leaves behind, and ends all that is left at the end.
if [ -z "${SESSION_DIR-}" ]; then
	unset PIDFILE_HELD
	SESSION_DIR=$(mktemp -d) || exit 1
	export SESSION_DIR LC_ALL=C
	trap 'rm -rf "$SESSION_DIR"' EXIT
	mkdir "$SESSION_DIR/app"
	pidfile run --tree --max-runtime 1m "$SESSION_DIR/session.pid" bash "$0" 2>&1 | perl -pe '
		sub pid { $pids{$_[0]} //= 2637 + 17 * keys %pids }
		s/\Q$ENV{SESSION_DIR}\E/\/run/g;
		unless (/^\$ /) {
			s/(PID |"pid": |^)(\d+)(?=\D)/$1 . pid($2)/ge;
			s/\b(for|up) \d[\dhms.]*/$1 2s/g;
			s/, \d[\d.]*m?s\)/, 0s)/g;
			s/(PID \d+), \w+, (?=holder|has)/$1, root, /;
			s/"started": ".*?"/"started": "2026-11-23T21:24:07.59Z"/;
			s/"uid": \d+/"uid": 0/;
			s/"user": ".*?"/"user": "root"/;
		}'
	exit
fi

# kill returns when those it kills have ended and been reaped.
kill() {
	command kill "$@"
	local pid
	for pid; do
		[[ $pid == [0-9]* ]] || continue
		while [ -e "/proc/$pid" ]; do sleep 0.01; done
	done
}

cd "$SESSION_DIR/app" || exit
while read -r line <&3; do
	printf '$ %s\n' "$line"
	eval "$line" </dev/null
	if [[ $line == *\& ]]; then # the next line finds it running
		disown
		file=$(grep -o '[^ ]*\.pid' <<<"$line" | head -n 1)
		for _ in {1..1000}; do [ -s "$file" ] && break; sleep 0.01; done
	fi
done 3<&0
exec kill -TERM "$PPID" # whatever is left
