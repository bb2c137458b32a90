#!/bin/sh
# Says what the next of the files `smi.1`, `smi.2` … beside it holds; the last one for ever.
here=$(dirname "$0")
turn=$(($(cat "$here/turn" 2>/dev/null || echo 0) + 1))
[ -e "$here/smi.$turn" ] || turn=$((turn - 1))
echo "$turn" >"$here/turn"
cat "$here/smi.$turn"
