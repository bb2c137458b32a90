#!/bin/sh
# bin/Runner.Worker of the test's runner: lives until a file says that the job is finished.
here=$(dirname "$0")/..
while ! [ -e "$here/finish" ]; do sleep 0.1; done
