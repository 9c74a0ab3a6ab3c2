"""Conversations by name: `%%vlm --chat NAME` goes on with one, `%omlx chats` looks after them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...types import ImagePart, Message
from ..answers.markdown import safe_markdown
from ..plain import name as on_one_line
from ..plain import tell
from ..settings.config import settings

if TYPE_CHECKING:
    from ...images.decoded import DecodedImage


@dataclass
class Turn:
    """A question and its answer. `cell` is the notebook cell that asked, where the front end says so; `thinking` is
    what was thought before the answer, which the next turns don't hear."""

    cell: str
    user: Message
    answer: Message
    thinking: str = ""


@dataclass
class Chat:
    name: str
    turns: list[Turn] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        return [message for turn in self.turns for message in (turn.user, turn.answer)]

    @property
    def pictures(self) -> int:
        return sum(isinstance(part, ImagePart) for turn in self.turns for part in turn.user.parts)


_chats: dict[str, Chat] = {}


def names() -> list[str]:
    return sorted(_chats)


def listing() -> list[Chat]:
    return [_chats[name] for name in names()]


def before(name: str, cell: str) -> list[Message]:
    """The messages that a cell's question goes on from: of a cell that asked before, what came before it then."""
    chat = _chats.setdefault(name, Chat(name))
    at = _turn_of(chat, cell)
    return [message for turn in chat.turns[:at] for message in (turn.user, turn.answer)]


def add(name: str, cell: str, user: Message, answer: str, thinking: str = "") -> str:
    """Keep a turn, in the place of the same cell's earlier one. What came after that is kept under another name, which
    comes back; "" where nothing did."""
    chat = _chats.setdefault(name, Chat(name))
    at = _turn_of(chat, cell)
    forked = ""
    if at < len(chat.turns) - 1:
        forked = next(f"{name}~{n}" for n in range(1, 10_000) if f"{name}~{n}" not in _chats)
        _chats[forked] = Chat(forked, list(chat.turns))
    chat.turns[at:] = [Turn(cell, user, Message("assistant", [answer]), thinking)]
    return forked


def _turn_of(chat: Chat, cell: str) -> int:
    """The place of a cell's turn; behind the last one where it has none."""
    return next((i for i, turn in enumerate(chat.turns) if cell and turn.cell == cell), len(chat.turns))


def find(name: str) -> Chat:
    """:raises UsageError: no such chat."""
    chat = _chats.get(name)
    if chat is None:
        raise UsageError(f"there is no chat {name}; known: {', '.join(names()) or 'none yet'}.")
    return chat


def fork(name: str, new: str) -> None:
    """:raises UsageError: no such chat, or the new name is taken."""
    if new in _chats:
        raise UsageError(f"there is a chat {new} already; %omlx chats clear {new} removes it.")
    _chats[new] = Chat(new, list(find(name).turns))


def clear(name: str | None = None) -> None:
    if name is None:
        _chats.clear()
    else:
        find(name)
        del _chats[name]


def export(name: str, path: Path) -> None:
    """Write a chat as Markdown (.md) or as OpenAI messages (.json), pictures included, thoughts where they are saved.

    :raises UsageError: another file type, or the file can't be written.
    """
    chat = find(name)
    if path.suffix == ".json":
        made = [message for turn in chat.turns for message in _as_openai(turn)]
        text = json.dumps(made, indent=1, ensure_ascii=False)
    elif path.suffix == ".md":
        text = "\n\n".join(block for turn in chat.turns for block in _as_markdown(turn)) + "\n"
    else:
        raise UsageError("a chat is exported as .md or .json; name the file so.")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be written ({error.strerror or error}); name a file that can.") from None


def _saved_thought(turn: Turn) -> str:
    return turn.thinking if settings().save_thoughts else ""


def _as_openai(turn: Turn) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"role": m.role, "content": [_openai(part) for part in m.parts]} for m in (turn.user, turn.answer)
    ]
    if thought := _saved_thought(turn):
        made[-1]["reasoning_content"] = thought
    return made


def _as_markdown(turn: Turn) -> list[str]:
    """The turn's messages; the thought is a quotation between them."""
    made = [_markdown(m.role, m.parts) for m in (turn.user, turn.answer)]
    if thought := _saved_thought(turn):
        quoted = "\n".join(f"> {line}".rstrip() for line in safe_markdown(thought).splitlines())
        made.insert(1, f"**assistant, thinking**\n\n{quoted}")
    return made


def _openai(part: object) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": _data_url(part.source)}}
    return {"type": "text", "text": str(part)}


def _data_url(image: DecodedImage) -> str:
    return "data:image/png;base64," + base64.b64encode(image.png()).decode()


def _markdown(role: str, parts: Sequence[object]) -> str:
    shown = [f"![picture]({_data_url(p.source)})" if isinstance(p, ImagePart) else str(p) for p in parts]
    return f"**{role}**\n\n" + "\n\n".join(shown)


def command(rest: list[str]) -> None:
    """%omlx chats | chats fork NAME NEW | chats clear [NAME] | chats export NAME FILE"""
    match rest:
        case []:
            for chat in listing():
                tell(f"{on_one_line(chat.name)}: {len(chat.turns)} turns, {chat.pictures} pictures")
            if not _chats:
                tell("No chats yet; %%vlm --chat NAME begins one.")
        case ["fork", name, new]:
            fork(name, new)
            tell(f"{new} goes on from {name} ({len(find(new).turns)} turns).")
        case ["clear"]:
            clear()
        case ["clear", name]:
            clear(name)
        case ["export", name, file]:
            export(name, Path(os.path.expanduser(file)))
            tell(f"{file} written.")
        case _:
            raise UsageError("%omlx chats; chats fork NAME NEW; chats clear [NAME]; chats export NAME FILE.md|.json")
