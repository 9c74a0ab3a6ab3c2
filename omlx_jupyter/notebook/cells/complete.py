"""Completion of the magics' flags, commands, models, chats, jobs and names."""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..shell import Shell


class Typed(Protocol):
    """IPython's event of a completion."""

    line: str
    symbol: str


class Context(Protocol):
    """What IPython tells a matcher of the cell."""

    full_text: str
    line_with_cursor: str
    cursor_position: int


def install(shell: Shell) -> None:
    """Hooks for the three magics. What they know is imported when they are asked."""

    def omlx(_: object, event: Typed) -> list[str]:
        words = event.line.split()
        begun = words[1:] if event.line.endswith(" ") else words[1:-1]
        from ..manage.commands import COMMANDS

        return _omlx(begun, list(COMMANDS))

    def magic(name: str) -> Any:
        def complete(_: object, event: Typed) -> list[str]:
            words = event.line.split()
            before = words[-1] if event.line.endswith(" ") else (words[-2] if len(words) > 1 else "")
            if before == "--chat":
                from ..work import chats

                return chats.names()
            if before == "--compare":
                return _compared()
            if event.symbol.startswith("-"):
                from .magics import flags

                return flags()[name]
            return [*_names(shell), *_files(event.symbol)]

        return complete

    for prefix in ("%omlx", "omlx"):
        shell.set_hook("complete_command", omlx, str_key=prefix)
    shell.set_hook("complete_command", magic("ocr"), str_key="%ocr")
    shell.set_hook("complete_command", magic("vlm"), str_key="%%vlm")
    matchers = _matchers(shell)
    if matchers is not None:
        matchers.append(_in_braces(shell))


def uninstall(shell: Shell) -> None:
    """Take away what `install` put there, so that it doesn't pile up when the extension is loaded again."""
    hooks = shell.strdispatchers["complete_command"].strs
    for key in ("%omlx", "omlx", "%ocr", "%%vlm"):
        hooks.pop(key, None)
    matchers = _matchers(shell)
    if matchers is not None:
        matchers[:] = [matcher for matcher in matchers if getattr(matcher, "__module__", "") != __name__]


def _matchers(shell: Shell) -> list[Any] | None:
    return getattr(getattr(shell, "Completer", None), "custom_matchers", None)


def _in_braces(shell: Shell) -> Any:
    """Names inside {...} of a %%vlm cell where an apostrophe in the prose makes IPython see a string."""
    from rlcompleter import Completer

    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()
    def matcher(context: Context) -> Any:
        line = context.line_with_cursor[: context.cursor_position]
        before, brace, inside = line.rpartition("{")
        apostrophe = before.count("'") % 2 or before.count('"') % 2
        if not (context.full_text.lstrip().startswith("%%vlm") and brace and "}" not in inside and apostrophe):
            return {"completions": []}
        token = re.search(r"[\w.]*$", inside)
        begun = token.group() if token else ""
        known = Completer(shell.user_ns)
        found = known.attr_matches(begun) if "." in begun else known.global_matches(begun)
        made = [SimpleCompletion(text=text.rstrip("( "), type="instance") for text in found]
        return {"completions": made, "matched_fragment": begun, "suppress": True}

    return matcher


def _omlx(begun: list[str], commands: list[str]) -> list[str]:
    from ..work import chats, jobs

    match begun:
        case []:
            return commands
        case ["load"]:
            from ...models.hub import EMBEDDED, cached_models

            return [EMBEDDED, *cached_models()]
        case ["set"]:
            from ...models.hub import EMBEDDED, cached_models

            return [EMBEDDED, *cached_models()]
        case ["set", *_]:
            from ..settings.per_model import ALIAS, KINDS

            return [f"{key}=" for key in (*KINDS, ALIAS)]
        case ["load" | "model", _]:
            return ["--drafter"]
        case ["load" | "model", _, "--drafter"]:
            from ...models.hub import cached_models

            return cached_models()
        case ["connect" | "doctor"]:
            from ...remote import place

            return place.names()
        case ["connect", _, *_]:
            return ["--model", "--key-env"]
        case ["serve", *_]:
            return ["--name", "--model", "--port", "--idle-exit"]
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


def _compared() -> list[str]:
    """Models and servers."""
    from ...models.hub import EMBEDDED, cached_models
    from ...remote import place

    return [EMBEDDED, *cached_models(), *place.names()]


def _names(shell: Shell) -> list[str]:
    hidden = ("In", "Out", "exit", "quit", "get_ipython", "open")
    return [n for n in shell.user_ns if not n.startswith("_") and n not in hidden]


def _files(begun: str) -> list[str]:
    return [path + "/" * os.path.isdir(path) for path in glob.glob(glob.escape(begun) + "*")]
