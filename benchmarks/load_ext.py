"""What `%load_ext omlx_jupyter` adds to a start of IPython: medians of runs that alternate with and without it.

python -m benchmarks.load_ext
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 9
_TIMED = (
    "import time; _began = time.perf_counter()\n"
    "%load_ext omlx_jupyter\n"
    "print(1e3 * (time.perf_counter() - _began))"
)  # fmt: skip


def ipython(code: str, home: str) -> tuple[float, str]:
    """Milliseconds of a whole IPython that runs the code, and what it printed."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "-c", code]
    environment = {**os.environ, "IPYTHONDIR": home}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return 1e3 * (time.perf_counter() - began), done.stdout


def main() -> None:
    whole: dict[str, list[float]] = {"": [], "%load_ext omlx_jupyter": []}
    inside: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        for code in (*whole, _TIMED):  # writes bytecode and the profile
            ipython(code, home)
        for _ in range(ROUNDS):
            for code, found in whole.items():
                found.append(ipython(code, home)[0])
            inside.append(float(ipython(_TIMED, home)[1]))
    without, loaded = map(statistics.median, whole.values())
    print(f"IPython alone {without:.0f} ms, with %load_ext {loaded:.0f} ms: {loaded - without:+.0f} ms, ", end="")
    print(f"ratio {loaded / without:.3f}")
    print(f"%load_ext by itself: {statistics.median(inside):.1f} ms ({min(inside):.1f} to {max(inside):.1f})")


if __name__ == "__main__":
    main()
