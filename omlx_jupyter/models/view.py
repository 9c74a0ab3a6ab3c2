"""What the libraries see of a checkpoint's folder: a folder of links, whose JSON files name no code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import psutil

from .hub import PATTERNS

# Every key by which transformers, mlx-vlm, mlx-lm or peft may be led to a class, a file or a repository of code.
CODE_KEYS = frozenset(
    [
        "auto_map",
        "auto_mapping",
        "code_revision",
        "custom_generate",
        "custom_pipelines",
        "model_file",
        "trust_code",
        "trust_remote_code",
    ]
)
_VOCABULARIES = ("tokenizer.json", "vocab*.json", "added_tokens.json", "*.index.json")  # keys are tokens, or tensors
_MOST_BYTES = 64 * 2**20
_PREFIX, _DAY = "omlx-model-", 24 * 3600

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


@dataclass(frozen=True)
class Named:
    """Code that a file of a checkpoint names: `reference` is what its `key` says, e.g. ``a.T`` or ``org/b--a.T``."""

    file: str
    key: str
    reference: str

    @property
    def source(self) -> str:
        """The Python file, with its repository where that isn't the checkpoint's own."""
        repo, _, name = self.reference.rpartition("--")
        if not name.endswith(".py"):
            name = f"{name.split('.')[0]}.py"
        return f"{repo}/{name}" if repo else name


def named_code(folder: Path) -> tuple[Named, ...]:
    """All code that a checkpoint's JSON files name, in the files' order."""
    found = [
        Named(str(path.relative_to(folder)), key, text)
        for path in _files(folder)
        if _may_name_code(path)
        for key, value in _named(parsed_json(path))
        for text in _texts(value)
    ]
    return tuple(dict.fromkeys(found))


def make_view(folder: Path, trusted: bool) -> tuple[Path, dict[str, str]]:
    """A new temporary folder, named like `folder`, and the SHA-256 of each Python file in it.

    Not trusted: links to the kinds of files that the hub is asked for, without Python files and pickles; a JSON file
    that names code is written anew without. Trusted: every file, Python files as copies of what was hashed.
    """
    _sweep()
    view = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")) / (folder.resolve().name or "model")
    view.mkdir()
    hashes: dict[str, str] = {}
    for path in _files(folder):
        name = path.relative_to(folder)
        target = view / name
        if path.suffix == ".py" and trusted:
            target.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            target.write_bytes(content)
            hashes[str(name)] = hashlib.sha256(content).hexdigest()
        elif trusted or any(fnmatch(path.name, pattern) for pattern in PATTERNS):
            target.parent.mkdir(parents=True, exist_ok=True)
            _place(path, target, trusted)
    return view, hashes


def _sweep() -> None:
    """Views of processes that were killed. Not young ones: another container's processes can't be seen from here."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = left.name.removeprefix(_PREFIX).split("-")[0]
        try:
            old = time.time() - left.lstat().st_mtime > _DAY
        except OSError:
            continue
        if old and owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def remove_view(view: Path) -> None:
    shutil.rmtree(view.parent, ignore_errors=True)


def _place(path: Path, target: Path, trusted: bool) -> None:
    if not trusted and _may_name_code(path):
        parsed = parsed_json(path)
        if any(True for _ in _named(parsed)):
            target.write_text(json.dumps(without_code(parsed)), encoding="utf-8")
            return
    target.symlink_to(path.resolve())


def _files(folder: Path) -> Iterator[Path]:
    """Regular files, those of folders within too; not what hidden folders hold, and no folder behind a link."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (path for name in sorted(names) if (path := Path(root, name)).is_file())


def _may_name_code(path: Path) -> bool:
    return path.suffix == ".json" and not any(fnmatch(path.name, pattern) for pattern in _VOCABULARIES)


def parsed_json(path: Path) -> Json:
    """What the libraries would read, or None for what isn't JSON to them either.

    Parsed, not searched: ``"auto\\u005fmap"`` is the same key.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        read: Json = json.loads(path.read_bytes())
        return read
    except (OSError, ValueError, RecursionError):
        return None


def _named(value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        for key, held in value.items():
            if key in CODE_KEYS:
                yield key, held
            else:
                yield from _named(held)
    elif isinstance(value, list):
        for held in value:
            yield from _named(held)


def without_code(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: without_code(held) for key, held in value.items() if key not in CODE_KEYS}
    return [without_code(held) for held in value] if isinstance(value, list) else value


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for held in value.values():
            yield from _texts(held)
    elif isinstance(value, list):
        for held in value:
            yield from _texts(held)
