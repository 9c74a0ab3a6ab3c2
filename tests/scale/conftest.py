"""The scripts of docs/ray.md and docs/dask.md, run as they stand in a process, beside a real server."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow
import pyarrow.parquet as parquet
import pytest

from omlx_jupyter.runs.shares import shares

from ..conftest import draw_text
from ..kernel.test_docs_blocks import ELSEWHERE, blocks
from ..serve.conftest import ROOT, Served, end, start, until

PAGES, SHARE = 90, 10


@pytest.fixture(scope="session")
def main() -> Iterator[Served]:
    """The server that the docs call main."""
    made = start("main", ["tiny-ocr"])
    yield made
    end(made)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pages, one of which is broken, and the same as Parquet."""
    place = tmp_path_factory.mktemp("pages")
    (place / "scans").mkdir()
    for n in range(PAGES - 1):
        draw_text(f"Page {n}").save(place / "scans" / f"{n:03}.png")
    (place / "scans" / "020.png").write_bytes(b"no picture")
    (place / "scans" / "999.png").write_bytes((place / "scans" / "001.png").read_bytes())
    held = [path.read_bytes() for path in sorted((place / "scans").iterdir())]
    parquet.write_table(pyarrow.table({"image": held}), place / "pages.parquet", row_group_size=16)
    return place


@dataclass
class Script:
    """A page's script in a folder of its own, with smaller shares."""

    path: Path
    out: Path

    def start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # as docs/ray.md says: it stays at 127.0.0.1
        token = self.path.parent / "token"  # not one that Ray makes in the home folder
        token.write_text(secrets.token_hex(32))
        environment["RAY_AUTH_TOKEN_PATH"] = str(token)
        return subprocess.Popen(
            [sys.executable, self.path.name], cwd=self.path.parent, env=environment, text=True,
            stdout=(self.path.parent / "stdout").open("w"), stderr=(self.path.parent / "stderr").open("a"),
        )  # fmt: skip

    def running(self, enough: Callable[[], bool]) -> subprocess.Popen[str]:
        """Started, and enough done or ended. Ray gives a part of itself 15 s to start, which busy cores don't keep:
        then it is started anew."""
        for _ in range(4):
            (self.path.parent / "stderr").unlink(missing_ok=True)
            process = self.start()
            until(lambda process=process: enough() or process.poll() is not None, 240)
            if process.poll() in (None, 0) or "timed out during startup" not in self.complaint():
                break
        return process

    def complaint(self) -> str:
        return (self.path.parent / "stderr").read_text()[-3000:]

    def finish(self) -> str:
        process = self.running(lambda: False)
        assert process.returncode == 0, self.complaint()
        return (self.path.parent / "stdout").read_text()

    def parts(self) -> dict[str, int]:
        """Its files, by the time (ns) of their last change."""
        return {path.name: path.stat().st_mtime_ns for path in self.out.glob("part-*.parquet")}

    def killed(self, workers: Callable[[psutil.Process], bool]) -> tuple[list[psutil.Process], set[str]]:
        """Run until two shares are read, and kill the driver alone. All that it had started, and the libraries that
        processes of a kind had loaded."""
        process = self.running(lambda: len(self.parts()) >= 2)
        assert process.poll() is None, self.complaint()
        driver = psutil.Process(process.pid)
        below = driver.children(recursive=True)
        found = set[str]()
        for one in [driver, *below]:
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended since
                found |= {Path(held.path).name for held in one.memory_maps()} if workers(one) else set()
                heard = [c.laddr.ip for c in one.net_connections("inet") if c.status == "LISTEN"]
                found |= {f"listens at {ip}" for ip in heard if not is_loopback(ip)}
        driver.kill()
        process.wait(30)
        return below, found


def is_loopback(ip: str) -> bool:
    return ip.startswith("127.") or ip in ("::1", "::ffff:127.0.0.1")


@pytest.fixture
def script(tmp_path: Path, pictures: Path, main: Served) -> Callable[..., Script]:
    def make(page: str, *changes: tuple[str, str], size: int = SHARE) -> Script:
        (code,) = [code for code, why in blocks(ROOT / "docs" / f"{page}.md") if why == ELSEWHERE]
        for old, new in (("size=256", f"size={size}"), *changes):
            assert code.count(old) == 1
            code = code.replace(old, new)
        (tmp_path / "read.py").write_text(code)
        for entry in pictures.iterdir():
            (tmp_path / entry.name).symlink_to(entry)
        return Script(tmp_path / "read.py", tmp_path / "read")

    return make


def check(
    script: Script, sources: list[str], workers: Callable[[psutil.Process], bool], outlives: bool = False
) -> None:
    """Killed in the middle and started again: what was there stays, the rest is read, every source is there once.
    Where workers outlive their driver (`outlives`), the new one runs beside them."""
    below, loaded = script.killed(workers)
    try:
        assert any(name.startswith("libc.so") for name in loaded)  # they were looked at
        assert not [name for name in loaded if "mlx" in name or name.startswith("listens at")]
        if not outlives:
            assert not psutil.wait_procs(below, 120)[1]
        before = script.parts()
        assert 2 <= len(before) < len(sources) / SHARE
        said = script.finish()
    finally:
        for one in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()  # psutil looks whether it is still the same process
    read = sum(map(int, re.findall(r"'rows': (\d+)", said)))
    missing = len(sources) - SHARE * len(before)  # nothing that was there is read again
    assert read <= missing if outlives else read == missing
    assert f"{len(sources)} pages are read" in said
    assert outlives or before.items() <= script.parts().items()
    rows = parquet.read_table(script.out).to_pylist()
    assert sorted(row["source"] for row in rows) == sorted(sources)
    (failed,) = [row for row in rows if row["error"]]
    assert failed["source"] == sources[20]
    assert failed["text"] == ""
    assert sum("Page" in row["text"] and row["tokens"] > 3 for row in rows) > 0.9 * len(rows)
    with contextlib.chdir(script.path.parent):
        assert list(shares(sources, "read/")) == []
