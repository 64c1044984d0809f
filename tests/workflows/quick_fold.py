"""Stands for a process that trains a fold, without torch: it may be killed, or kill what called it, at first."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    """Leave a file that says how often it was tried, where and when."""
    request = json.loads(sys.argv[1])
    folder, fold = Path(request["folder"]), request["fold"]
    tries = folder / f"{fold}.tries"
    tries.write_text(tries.read_text() + "x" if tries.is_file() else "x")
    count = len(tries.read_text())
    begun = time.monotonic()
    if count <= request.get("kills_caller", 0):
        os.kill(os.getppid(), signal.SIGKILL)
        sys.stdin.read()  # nobody is left at its other end
        os.kill(os.getpid(), signal.SIGKILL)
    if count <= request.get("is_killed", 0):
        os.kill(os.getpid(), request.get("signal", signal.SIGKILL))
    if "mend" in request:
        print("a line before", file=sys.stderr)
        print(f"error: {request['mend']}", file=sys.stderr)
        return 2
    if request.get("fails"):
        raise ValueError("a fault")
    if request.get("waits"):
        sys.stdin.read()
    time.sleep(request.get("seconds", 0))
    place = os.environ.get("PLACE")
    group = [name for name in os.environ if "RANK" in name or "WORLD" in name or name.startswith(("TORCHE", "MASTER"))]
    found = {"place": place, "begun": begun, "ended": time.monotonic(), "group": group}
    (folder / f"{fold}.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
