"""The one gate between a checkpoint's files and Python: no code of a checkpoint runs unless it was allowed.

Telling a library `trust_remote_code=False` doesn't do it: mlx-vlm's processors hard-code True, default to True, or
set it, and transformers asks on stdin where it is told nothing. So the libraries see a view of the folder that names
no code and holds none (models/view.py), and transformers' ways to code are refusals while it loads.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from .hub import code_of
from .view import Named, make_view, named_code, parsed_json, remove_view, without_code

_LOCK = threading.RLock()  # what is replaced below is the process's
_WAYS = ("get_class_from_dynamic_module", "get_class_in_module", "get_cached_module_file", "resolve_trust_remote_code")
_Replacement = Callable[..., Any]


class CodeRefusedError(ValueError):
    """A library wanted to run code that isn't trusted. A ValueError, so that it tries a class of its own instead."""


@dataclass
class Gate:
    """One load. `view` is the folder to load from; `close()` removes it once the model is gone."""

    view: Path
    trusted: bool
    named: tuple[Named, ...]
    hashes: dict[str, str]
    refused: list[str] = field(default_factory=list)
    imported: dict[str, str] = field(default_factory=dict)
    process: int = field(default_factory=os.getpid)

    def close(self) -> None:
        if os.getpid() == self.process:  # a forked child ends without taking the parent's folder away
            remove_view(self.view)

    @property
    def arguments(self) -> dict[str, bool]:
        """What the libraries' load functions are told."""
        return {"trust_remote_code": True} if self.trusted else {}

    def why(self) -> str:
        """What to add to the sentence of a failed load, where code may be what it lacked; else nothing."""
        if self.trusted or not (self.named or self.refused):
            return ""
        files = [f"{n.source} (named in {n.file})" for n in self.named if n.key != "trust_remote_code"]
        files = list(dict.fromkeys(files or self.refused))
        return (
            f"it may need code of its own, {', '.join(files[:4])}{', ...' if len(files) > 4 else ''}; "
            "read that, and pass trust_code=True if you trust it"
        )

    def notice(self) -> tuple[str, ...]:
        """Which files of the checkpoint ran, with their SHA-256: nothing, or one line."""
        for name in self.named:
            if name.key == "model_file" and name.source in self.hashes:
                self.imported.setdefault(name.source, self.hashes[name.source])
        if not self.imported:
            return ()
        files = ", ".join(f"{name} (sha256 {digest})" for name, digest in sorted(self.imported.items()))
        return (f"code of the checkpoint ran, as trust_code allows: {files}",)


@contextmanager
def gate(folder: Path, trust_code: bool) -> Iterator[Gate]:
    """Loads of config, tokenizer, processor and model happen inside. One at a time; process-wide while it is open."""
    with _LOCK:
        opened = Gate(*_made(folder, trust_code))
        ways = _trusted_ways(opened) if trust_code else _closed_ways(opened)
        try:
            with _replaced("transformers.dynamic_module_utils", ways), _type_as_named(folder):
                yield opened
        except BaseException:
            opened.close()
            raise


def _made(folder: Path, trusted: bool) -> tuple[Path, bool, tuple[Named, ...], dict[str, str]]:
    view, hashes = make_view(folder, trusted)
    return view, trusted, named_code(folder), hashes


def _closed_ways(opened: Gate) -> dict[str, _Replacement]:
    def refuse(wanted: object = "", *args: object, **kwargs: object) -> Any:
        opened.refused.append(str(wanted))
        raise CodeRefusedError(f"{wanted} is code, which isn't trusted")

    def resolve(
        trust_remote_code: object,
        model_name: object,
        has_local_code: object,
        has_remote_code: object,
        *_: object,
        **__: object,
    ) -> bool:
        return False if has_local_code or not has_remote_code else bool(refuse(model_name))

    return {way: resolve if way.startswith("resolve") else refuse for way in _WAYS}


def _trusted_ways(opened: Gate) -> dict[str, _Replacement]:
    """As transformers has them, but: no questions on stdin, other repositories at a commit, hashes before imports."""
    import transformers.dynamic_module_utils as dynamic

    find, in_module = dynamic.get_class_from_dynamic_module, dynamic.get_class_in_module

    def get_class_from_dynamic_module(reference: str, path: str | Path, *args: object, **kwargs: object) -> Any:
        if "--" in reference:
            repo, reference = reference.split("--")
            path = code_of(repo)
        kwargs.pop("code_revision", None)
        return find(reference, str(path), *args, **kwargs)

    def get_class_in_module(class_name: str, module_path: str | Path, **kwargs: object) -> Any:
        main = Path(dynamic.HF_MODULES_CACHE) / module_path
        for file in (main, *map(Path, dynamic.get_relative_import_files(main))):
            opened.imported[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        return in_module(class_name, module_path, **kwargs)

    return {
        "get_class_from_dynamic_module": get_class_from_dynamic_module,
        "get_class_in_module": get_class_in_module,
        "resolve_trust_remote_code": lambda *_, **__: True,
    }


@contextmanager
def _replaced(module: str, ways: dict[str, _Replacement]) -> Iterator[None]:
    """Every module that imported a function has it replaced; those that import it meanwhile get the replacement, so
    the way back is over all modules again."""
    __import__(module)
    originals = {way: getattr(sys.modules[module], way) for way in ways}
    try:
        for way, replacement in ways.items():
            _swap(way, originals[way], replacement)
        yield
    finally:
        for way, replacement in ways.items():
            _swap(way, replacement, originals[way])


def _swap(name: str, old: object, new: object) -> None:
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and vars(module).get(name) is old:
            vars(module)[name] = new


@contextmanager
def _type_as_named(folder: Path) -> Iterator[None]:
    """mlx-vlm tells some families apart by `auto_map` alone, so it is asked before the view leaves that out."""
    import mlx_vlm.utils as upstream

    config = parsed_json(folder / "config.json")
    asked = upstream.get_model_type
    try:
        whole, bare = asked(config), asked(without_code(config))
    except Exception:  # not a config that mlx-vlm can read: its load will say so
        whole = bare = None
    if whole == bare:
        yield
        return
    own = config.get("model_type") if isinstance(config, dict) else None

    def answer(read: dict[str, Any]) -> str | None:
        found: str | None = whole if read.get("model_type") == own else asked(read)
        return found

    with _replaced("mlx_vlm.utils", {"get_model_type": answer}):
        yield
