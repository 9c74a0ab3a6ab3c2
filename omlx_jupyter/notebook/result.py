"""What a cell gives back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..types import Generation, Usage
from .markdown import safe_markdown

_NAMES = {"length": "cut at max tokens", "cancelled": "interrupted", "error": "failed"}


class Result:
    """An answer: `.text`, `.usage`, `.images`, `.finish_reason`, `.json()`; `str(result)` is the text."""

    def __init__(self, generation: Generation, images: Sequence[Any] = (), prompt: str = "", model: str = "") -> None:
        self.generation = generation
        self.images = list(images)
        self.prompt = prompt
        self.model = model
        self._shown_in: Any = None  # the execution that has displayed it already

    @property
    def text(self) -> str:
        return self.generation.text

    @property
    def usage(self) -> Usage:
        return self.generation.usage

    @property
    def finish_reason(self) -> str:
        return self.generation.finish_reason

    def json(self) -> Any:
        """The answer parsed as JSON, a surrounding code fence taken away.

        :raises ValueError: it is no JSON.
        """
        text = self.text.strip()
        if text.startswith("```"):
            text = text.strip("`").removeprefix("json").strip()
        return json.loads(text)

    def figures(self) -> str:
        """One line: tokens, time to first token, speed, and how it ended if not by itself."""
        note = _NAMES.get(self.finish_reason, "")
        return self.usage.line() + (f" · {note}" if note else "")

    def bundle(self) -> dict[str, str]:
        """The MIME bundle that is saved in the notebook: Markdown, and plain text as a fallback."""
        return answer_bundle(self.text, self.figures(), self.generation.notes)

    def _repr_markdown_(self) -> str:
        return self.bundle()["text/markdown"]

    def _ipython_display_(self) -> None:
        """Nothing right after the cell has streamed it; the whole answer whenever it is asked for again."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        shell = get_ipython()
        if shell is not None and self._shown_in == (id(shell), shell.execution_count):
            return
        display(self.bundle(), raw=True)

    def shown(self, shell: Any) -> None:
        self._shown_in = (id(shell), shell.execution_count)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "…"
        return f"<Result {text!r} · {self.figures()}>"


class ResultList(list[Result]):
    """Several answers in the order of their pictures. `.text` joins them with blank lines."""

    @property
    def text(self) -> str:
        return "\n\n".join(result.text for result in self)

    @property
    def usage(self) -> list[Usage]:
        return [result.usage for result in self]

    @property
    def images(self) -> list[Any]:
        return [image for result in self for image in result.images]

    def _ipython_display_(self) -> None:
        for result in self:
            result._ipython_display_()

    def shown(self, shell: Any) -> None:
        for result in self:
            result.shown(shell)

    def __str__(self) -> str:
        return self.text


def answer_bundle(text: str, figures: str, notes: Sequence[str] = ()) -> dict[str, str]:
    lines = [*notes, figures] if figures else list(notes)
    small = "\n".join(f"<sub>{safe_markdown(line).strip()}</sub>  " for line in lines)
    plain = "\n".join(f"[{line}]" for line in lines)
    return {
        "text/markdown": f"{safe_markdown(text)}\n\n{small}" if small else safe_markdown(text),
        "text/plain": f"{text}\n{plain}" if plain else text,
    }
