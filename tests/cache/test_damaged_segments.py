"""Segments that are something else: never a hang, never a wrong token, and the next kernel finds sound ones."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omlx_jupyter.cache import check
from omlx_jupyter.cache.files import Damaged, SegmentReader, header_of, write_segment
from omlx_jupyter.cache.index import check_folder

from .harm import Stored, answered, fill, notices, segments, with_header, within

FAMILIES = ("qwen2_vl", "qwen3_5")  # KV that is read into its final place, and recurrent states


@pytest.fixture(scope="module")
def filled(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    return {name: fill(checkpoint(name), tmp_path_factory.mktemp("segments") / "cache") for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def stored(request: pytest.FixtureRequest, filled: dict[str, Stored]) -> Stored:
    return filled[request.param]


@pytest.fixture
def folder(stored: Stored, tmp_path: Path) -> Path:
    return stored.copy(tmp_path / "cache")


def harmed(stored: Stored, folder: Path, caplog: Any) -> None:
    """Each damaged file is dropped with a sentence; then all is as it was."""
    assert not within(lambda: check.verify(folder)).ok
    seen = answered(stored, folder)
    assert seen.damaged
    assert not seen.paused
    told = notices(caplog)
    assert len(told) == seen.damaged
    assert all(text.startswith("a file of the prefix cache was dropped (") for text in told)
    seen = answered(stored, folder)
    assert seen.cached
    assert len(notices(caplog)) == len(told) + seen.damaged


# -- no files -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link", "link to a pipe", "folder"])
def test_no_regular_file(
    stored: Stored, folder: Path, kind: str, caplog: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder / "segments")  # a socket's path is short
    kept: dict[Path, bytes] = {}
    os.mkfifo(tmp_path / "pipe")
    for path in segments(folder):
        outside = tmp_path / path.name
        shutil.move(path, outside)
        kept[outside] = outside.read_bytes()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        elif kind == "device" and os.geteuid() == 0:
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
        elif kind == "folder":
            path.mkdir()
        else:
            target = {"device": Path("/dev/zero"), "link to a pipe": tmp_path / "pipe"}.get(kind, outside)
            path.symlink_to(target)
    if kind == "folder":  # which no file can take the place of
        assert not answered(stored, folder).paused
        assert answered(stored, folder).cached
    else:
        harmed(stored, folder, caplog)
    assert {path: path.read_bytes() for path in kept} == kept


# -- headers --------------------------------------------------------------------------------


def each(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Change every tensor's entry."""

    def run(header: dict[str, Any]) -> Any:
        return {name: entry if name == "__metadata__" else change(entry) for name, entry in header.items()}

    return run


def text(pattern: str, put: str) -> Callable[[dict[str, Any]], Any]:
    """The header's JSON with a value put in as text that JSON has no value for."""

    def run(header: dict[str, Any]) -> bytes:
        changed = each(lambda entry: {**entry, pattern: "HERE"})(header)
        return json.dumps(changed).replace('"HERE"', put).encode()

    return run


def overlapping(header: dict[str, Any]) -> dict[str, Any]:
    """Every tensor lies where another of its size does, or over the file's beginning."""
    made = dict(header)
    for name, entry in header.items():
        if name != "__metadata__":
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            made[name] = {**entry, "data_offsets": [0, size]}
    last = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"][1])
    made[last] = header[last]  # so that the file's length is right
    return made


def shifted(header: dict[str, Any]) -> dict[str, Any]:
    """Names and places are exchanged: the first tensor's name has the last one's bytes, and so on."""
    names = [name for name in header if name != "__metadata__"]
    return {**header, **dict(zip(names, [header[name] for name in reversed(names)], strict=True))}


def renamed(header: dict[str, Any]) -> dict[str, Any]:
    """A recurrent state's second array has another name, else everything has."""
    state = b"state:".hex()
    states = {name for name in header if name.startswith(state) and name.endswith(".1")}
    chosen = states or set(header) - {"__metadata__"}
    return {f"{name[:-1]}9" if name in chosen else name: entry for name, entry in header.items()}


def at(value: list[int]) -> Callable[[dict[str, Any]], Any]:
    return each(lambda entry: {**entry, "data_offsets": value})


def shaped(change: Callable[[list[int]], Any]) -> Callable[[dict[str, Any]], Any]:
    return each(lambda entry: {**entry, "shape": change(entry["shape"])})


def size_of(entry: dict[str, Any]) -> int:
    return int(entry["data_offsets"][1] - entry["data_offsets"][0])


HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "brackets": lambda _: b"[" * 200_000,
    "braces": lambda _: b'{"a":' * 200_000,
    "brackets in an entry": text("shape", "[" * 200_000 + "]" * 200_000),
    "nesting that counts right": lambda h: json.dumps({**h, "x": [[[[[]]]]]}).encode(),
    "shape of 10^30": shaped(lambda s: [10**30, *s[1:]]),
    "shape of 10^30 and none": shaped(lambda s: [10**30, 0, 4]),
    "shape of 10^30 beside zero bytes": each(lambda e: {**e, "shape": [10**9, 0, 4], "data_offsets": [0, 0]}),
    "seventy axes": shaped(lambda s: [*s, *[1] * 70]),
    "one axis": each(lambda e: {**e, "shape": [size_of(e)], "dtype": "U8"}),
    "axes exchanged": shaped(lambda s: s[::-1]),
    "negative axes": shaped(lambda s: [-s[0], -s[1], *s[2:]] if len(s) > 1 else s),
    "no shape": shaped(lambda s: None),
    "text for a shape": shaped(lambda s: "abc"),
    "shape in a shape": shaped(lambda s: [s]),
    "NaN": text("shape", "NaN"),
    "NaN in offsets": text("data_offsets", "[0, NaN]"),
    "Infinity": text("data_offsets", "[0, Infinity]"),
    "1e999": text("data_offsets", "[0, 1e999]"),
    "5,000 digits": text("data_offsets", "[0, " + "9" * 5000 + "]"),
    "negative offsets": each(lambda e: {**e, "data_offsets": [-size_of(e), 0]}),
    "offsets backwards": each(lambda e: {**e, "data_offsets": e["data_offsets"][::-1]}),
    "beyond the file": at([2**62, 2**62 + 4]),
    "overlapping": overlapping,
    "exchanged": shifted,
    "another type": each(lambda e: {**e, "dtype": {"F32": "I32", "U16": "F16"}.get(e["dtype"], "F32")}),
    "renamed": renamed,
    "an unknown type": each(lambda e: {**e, "dtype": "\x1b[2J"}),
    "no entries": lambda h: {"__metadata__": h["__metadata__"]},
    "null": lambda _: b"null",
    "a list": lambda h: list(h.values()),
    "entries of text": each(str),
    "no UTF-8": lambda _: b'{"\xff\xfe\x9b": 1}',
    "nothing": lambda _: b"",
}


VALID = ("one axis", "axes exchanged", "overlapping", "exchanged", "another type", "renamed")  # as far as bytes go
BOTH = [(name, family) for name in VALID for family in FAMILIES]
EITHER = [(name, FAMILIES[number % 2]) for number, name in enumerate(HEADERS) if name not in VALID]


@pytest.mark.parametrize(("name", "stored"), [*BOTH, *EITHER], indirect=["stored"])
def test_a_header(stored: Stored, folder: Path, name: str, caplog: Any) -> None:
    for path in segments(folder):
        with_header(path, HEADERS[name])
    harmed(stored, folder, caplog)


@pytest.mark.parametrize("length", [0, 1, 2**24 + 1, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("stored", FAMILIES[:1], indirect=True)
def test_a_headers_length(stored: Stored, folder: Path, length: int, caplog: Any) -> None:
    for path in segments(folder):
        with path.open("r+b") as file:
            file.write(struct.pack("<Q", length))
    harmed(stored, folder, caplog)


def test_no_memory_is_taken_for_what_a_file_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"0.k": np.zeros((2, 8, 4), np.float32)}
    path = tmp_path / "1.safetensors"
    write_segment(path, header_of(arrays, {}), arrays)
    with SegmentReader(path) as reader:
        monkeypatch.setattr(np, "empty", lambda shape, dtype: pytest.fail(f"{shape} taken"))
        for start, stop in ((0, 9), (0, 2**50), (-3, 2), (5, 2), (2**62, 2**62 + 1)):
            with pytest.raises(Damaged):
                reader.read("0.k", start, stop)
            if stop > 8:
                with pytest.raises(Damaged):
                    reader.shape("0.k", stop)


def test_a_hostile_header_is_refused_at_once(tmp_path: Path) -> None:
    """As large as a header may be, in every way that makes a parser slow or deep."""
    import time

    limit = 16 * 2**20 - 8
    wide = b'{"a":{"shape":[' + b"1," * ((limit - 60) // 2) + b'1],"data_offsets":[0,1]}}'
    for number, header in enumerate((b"[" * limit, b'{"a":' * (limit // 5), b"\\" * limit, b'"' * limit, wide)):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        began = time.perf_counter()
        with pytest.raises(Damaged):
            SegmentReader(path)
        assert time.perf_counter() - began < 5


def test_a_temporary_name_is_never_written_through(tmp_path: Path) -> None:
    """A link or a pipe of that name is removed, not followed or waited for."""
    arrays = {"0.k": np.ones((2, 8, 4), np.float32)}
    check_folder(tmp_path)
    (tmp_path / "outside").write_bytes(b"someone's file")
    for number, make in enumerate((os.mkfifo, lambda path: path.symlink_to(tmp_path / "outside"))):
        path = tmp_path / f"{number}.safetensors"
        make(tmp_path / f".{path.name}.{os.getpid()}.tmp")
        within(lambda path=path: write_segment(path, header_of(arrays, {}), arrays), 5)
        assert path.is_file()
        assert not path.is_symlink()
    assert (tmp_path / "outside").read_bytes() == b"someone's file"
