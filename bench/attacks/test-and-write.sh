#!/bin/sh
# The control of the attacks: it looks, then writes, as many init scripts do,
# and must be caught. Usage: test-and-write.sh PIDFILE COMMAND [ARG…]
file=$1
shift
if [ -e "$file" ] && kill -0 "$(cat "$file")"; then
	echo "$file: already running" >&2
	exit 1
fi
sleep 0.05 # so that the gap shows on every machine
echo $$ >"$file"
"$@"
code=$?
rm -f "$file"
exit $code
