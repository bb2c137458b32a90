#!/bin/bash
# The stand-in needs no libraries; it only insists on root, as the real script does.
if [[ $(id -u) -ne 0 ]]; then
  echo "Need to run with sudo privilege"
  exit 1
fi
command -v python3 >/dev/null || {
  echo "Can't find python3"
  exit 1
}
echo "Finish Install Dependencies"
