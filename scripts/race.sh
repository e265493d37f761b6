#!/bin/sh
# Prints -race where the race detector can be built. It needs cgo, so a C compiler with its headers;
# without one it prints nothing, and says so on stderr.
cc=$(go env CC)
if [ "${CGO_ENABLED:-1}" != 0 ] &&
	printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | $cc -x c -o /dev/null - 2>/dev/null; then
	echo -race
else
	echo "No working C compiler ($cc): the tests run WITHOUT the race detector." >&2
fi
