"""Completion of the magics' flags, commands, models, chats, jobs and names."""

from __future__ import annotations

import glob
import os
from typing import Any

from . import chats, jobs


def install(shell: Any, flags: dict[str, list[str]], commands: list[str]) -> None:
    """`flags` by magic name."""

    def omlx(_: Any, event: Any) -> list[str]:
        words = event.line.split()
        begun = words[1:] if event.line.endswith(" ") else words[1:-1]
        return _omlx(begun, commands)

    def magic(name: str) -> Any:
        def complete(completer: Any, event: Any) -> list[str]:
            words = event.line.split("\n")[0].split()
            before = words[-1] if event.line.endswith(" ") else (words[-2] if len(words) > 1 else "")
            if before == "--chat":
                return chats.names()
            if event.symbol.startswith("-"):
                return flags[name]
            return [*_names(shell), *_files(event.symbol)]

        return complete

    for prefix in ("%omlx", "omlx"):
        shell.set_hook("complete_command", omlx, str_key=prefix)
    shell.set_hook("complete_command", magic("ocr"), str_key="%ocr")
    shell.set_hook("complete_command", magic("vlm"), str_key="%%vlm")


def _omlx(begun: list[str], commands: list[str]) -> list[str]:
    match begun:
        case []:
            return commands
        case ["load"]:
            from ..models.hub import EMBEDDED, cached_models

            return [EMBEDDED, *cached_models()]
        case ["cache"]:
            return ["clear", "verify"]
        case ["chats"]:
            return ["fork", "clear", "export"]
        case ["chats", "fork" | "clear" | "export"]:
            return chats.names()
        case ["jobs"]:
            return ["wait", "cancel", "clear"]
        case ["jobs", "wait" | "cancel"]:
            return [str(job.number) for job in jobs.listing()]
    return []


def _names(shell: Any) -> list[str]:
    hidden = ("In", "Out", "exit", "quit", "get_ipython", "open")
    return [n for n in shell.user_ns if not n.startswith("_") and n not in hidden]


def _files(begun: str) -> list[str]:
    return [path + "/" * os.path.isdir(path) for path in glob.glob(glob.escape(begun) + "*")]
