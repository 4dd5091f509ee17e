"""Run a program for as long as who started this lives: ``python -m tasks.lifeline PROGRAM...``.

It leads a session, and its standard input is a pipe that its parent holds open. However the parent ends, the pipe is
closed, and the whole session is then asked to end.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the program and exit with its code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    main()
