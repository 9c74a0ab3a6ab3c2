"""What a cell gives back."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from ...types import Generation, ImagePart, Message, Usage
from ..plain import name as one_line
from ..plain import shown
from ..settings.config import settings
from .html import html
from .markdown import safe_line, safe_markdown
from .thoughts import Thought

if TYPE_CHECKING:
    from ...chat.documents import TextRegion
    from ...chat.pages import TextLine
    from ...images.grounding import Grounding, Place

_NAMES = {"length": "cut at max tokens", "cancelled": "interrupted", "error": "failed"}


class Result:
    """An answer: `.text`, `.thinking`, `.usage`, `.images`, `.messages`, `.tool_calls`, `.finish_reason`, `.detail`,
    `.json()`.

    `str(result)` is the text, without the thought; `await result` is the result.
    """

    def __init__(
        self,
        generation: Generation,
        images: Sequence[Any] = (),
        prompt: str = "",
        model: str = "",
        *,
        source: str = "",
        messages: Sequence[Message] = (),
        tool_calls: Sequence[Any] = (),
        thought_s: float = 0.0,
        grounding: Grounding | None = None,
    ) -> None:
        self.generation = generation
        self._grounding = grounding
        self.thought_s = thought_s  # how long the thought took, where somebody watched
        self.source = source  # what was read, for answers of many pictures
        said = [Message(m.role, _kept_parts(m.parts), m.extra) for m in messages]
        self.messages = [*said, Message("assistant", [generation.text])] if messages else []
        self.tool_calls = list(tool_calls)  # calls that the model made and nobody ran
        self.images: list[Any] = [_kept(image) for image in images]
        self.prompt = prompt
        self.model = model
        self._shown_in: Any = None  # the execution that has displayed it already

    @property
    def text(self) -> str:
        return self.generation.text

    @property
    def thinking(self) -> str:
        """What the model thought before its answer."""
        return self.generation.thinking

    @property
    def detail(self) -> str:
        """More than `finish_reason` says, where there is more to say."""
        if self.thinking and not self.text and not self.generation.detail:
            return "the answer was stopped inside its thought"
        return self.generation.detail

    @property
    def thought(self) -> Thought:
        return Thought(self.thinking, self.usage.reasoning_tokens, self.thought_s)

    @property
    def lines(self) -> tuple[TextLine, ...]:
        """A page's lines in reading order, each with its text, box and mean log-probability; empty for an answer
        to a whole picture."""
        return getattr(self.generation, "lines", ())

    @property
    def regions(self) -> tuple[TextRegion, ...]:
        """A page's regions in reading order, where it was read with a layout: each with its kind, Markdown and box."""
        return getattr(self.generation, "regions", ())

    @property
    def places(self) -> tuple[Place, ...]:
        """What an answer to one picture locates, in pixels of it; empty for an answer without boxes. Models write boxes
        in coordinates of their own, which are turned into pixels by the family's."""
        from ...images.grounding import THOUSANDTHS, places

        pictures = [image for image in self.images if hasattr(image, "width")]
        if len(pictures) != 1:
            return ()
        return places(self.text, self._grounding or THOUSANDTHS, pictures[0].width, pictures[0].height)

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
        """The MIME bundle of the answer that is saved in the notebook: Markdown, and plain text as a fallback."""
        return answer_bundle(self.text, self.figures(), self.notes())

    def saved(self) -> dict[str, str]:
        """`bundle` under the pictures that were asked about, for a cell's output."""
        from ...images.kept import KeptImage
        from .shown_pictures import pictures_html

        made = self.bundle()
        seen = pictures_html([image for image in self.images if isinstance(image, KeptImage)])
        return {**made, "text/markdown": f"{seen}\n\n{made['text/markdown']}"} if seen else made

    def notes(self) -> tuple[str, ...]:
        """What is said of the answer below it."""
        unsaid = (self.detail,) if self.thinking and not self.text else ()
        return (*self.generation.notes, *unsaid)

    def thought_bundle(self) -> dict[str, str] | None:
        """The MIME bundle of the thought; None where there was none, or it isn't to be saved."""
        return self.thought.bundle() if self.thinking and settings().save_thoughts else None

    def _repr_markdown_(self) -> str:
        return self.bundle()["text/markdown"]

    def _repr_html_(self) -> str:
        """For tables and pages that show HTML: the text as text, whatever it holds."""
        thought = self.thought.html() if self.thought_bundle() else ""
        below = " · ".join([*self.notes(), self.figures()])
        return html('{}<div style="white-space: pre-wrap">{}</div><small>{}</small>', thought, self.text, below)

    def __await__(self) -> Generator[Any, None, Result]:
        return self
        yield

    def _ipython_display_(self) -> None:
        """Nothing right after the cell has streamed it; the whole answer whenever it is asked for again."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if was_streamed(shell, self._shown_in):
            return
        if thought := self.thought_bundle():
            display_bundle(shell, thought)
        display_bundle(shell, self.saved())

    def shown(self, shell: Any) -> None:
        self._shown_in = (id(shell), shell.execution_count)

    def unshown(self) -> None:
        """It is asked for again, maybe in the cell that has shown it."""
        self._shown_in = None

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "…"
        return f"<Result {text!r} · {self.figures()}>"


def _kept(image: object) -> object:
    """A picture as an answer keeps it: not its pixels."""
    from ...images.decoded import DecodedImage
    from ...images.kept import shelf

    return shelf.keep(image) if isinstance(image, DecodedImage) else image


def _kept_parts(parts: Sequence[object]) -> Sequence[object]:
    if isinstance(parts, str):
        return parts
    return [ImagePart(_kept(part.source)) if isinstance(part, ImagePart) else part for part in parts]


class Failure:
    """A picture that could not be read, in its place among the results."""

    def __init__(self, error: Exception, source: str) -> None:
        self.error, self.source = error, source
        self.text = ""
        self.usage = Usage()
        self.images: list[Any] = []
        self.finish_reason = "error"

    def shown(self, shell: Any) -> None:
        """Shown with the others."""

    def __repr__(self) -> str:
        return one_line(f"<Failure {self.source}: {self.error}>")


class ResultList(list[Result | Failure]):
    """Several answers in the order of their pictures. `.text` joins them with blank lines, `.errors` holds
    the failures."""

    _shown_in: Any = None

    @property
    def errors(self) -> list[Failure]:
        return [result for result in self if isinstance(result, Failure)]

    def figures(self) -> str:
        failed = f" · {len(self.errors)} failed" if self.errors else ""
        tokens = sum(result.usage.completion_tokens for result in self)
        thought = self._sum("reasoning_tokens", " ({:,} thought)")
        known = self._sum("cached_tokens", " · reused {:,}") + self._sum("accepted", " · {:,} from drafts")
        return f"{len(self)} pictures · {tokens:,} tokens{thought}{known}{failed}"

    def _sum(self, figure: str, words: str) -> str:
        count = sum(getattr(result.usage, figure) for result in self)
        return words.format(count) if count else ""

    def thought_bundle(self) -> None:
        """Of many answers the thoughts aren't shown; each has its own."""

    def bundle(self) -> dict[str, str]:
        """All answers under their sources' names."""
        made = [self._entry(number, result) for number, result in enumerate(self, 1)]
        last = answer_bundle("", self.figures())
        return {kind: "\n\n".join([*(entry[kind] for entry in made), last[kind].strip()]) for kind in last}

    def saved(self) -> dict[str, str]:
        """For a cell's output: their sources are named, and not shown."""
        return self.bundle()

    @staticmethod
    def _entry(number: int, result: Result | Failure) -> dict[str, str]:
        name = result.source or f"picture {number}"
        text = f"failed: {result.error}" if isinstance(result, Failure) else result.text
        if isinstance(result, Result) and result.thinking and not text:
            text = f"({result.detail})"
        entry = answer_bundle(text, "", () if isinstance(result, Failure) else result.generation.notes)
        return {
            "text/markdown": f"**{safe_line(name)}**\n\n{entry['text/markdown']}",
            "text/plain": f"--- {one_line(name)}\n{entry['text/plain']}",
        }

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
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if not was_streamed(shell, self._shown_in):
            display_bundle(shell, self.bundle())

    def shown(self, shell: Any) -> None:
        self._shown_in = (id(shell), shell.execution_count)

    def unshown(self) -> None:
        """As a result's."""
        self._shown_in = None

    def __str__(self) -> str:
        return self.text


def was_streamed(shell: Any, shown_in: Any) -> bool:
    """Whether the cell that ends now with this value has shown it already; `shown_in` is (id of the shell, the
    execution that showed it)."""
    return shell is not None and shown_in == (id(shell), shell.execution_count) and _is_cells_value()


def _is_cells_value() -> bool:
    """Whether IPython shows the value of the cell that runs, rather than somebody's `display(...)`."""
    from IPython.core.displayhook import DisplayHook

    frame = sys._getframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), DisplayHook):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def display_bundle(shell: Any, bundle: dict[str, str]) -> None:
    """Show it. What is saved is the answer letter for letter; a terminal, which prints `text/plain`, gets symbols."""
    from IPython.display import display

    from .view import shows_updates

    kernel = getattr(shell, "kernel", None)
    if kernel is None or not shows_updates(kernel):
        bundle = {**bundle, "text/plain": shown(bundle["text/plain"])}
    display(bundle, raw=True)


def answer_bundle(text: str, figures: str, notes: Sequence[str] = ()) -> dict[str, str]:
    lines = [*notes, figures] if figures else list(notes)
    small = "\n".join(f"<sub>{safe_line(line)}</sub>  " for line in lines)
    plain = "\n".join(f"[{line}]" for line in lines)
    return {
        "text/markdown": f"{safe_markdown(text)}\n\n{small}" if small else safe_markdown(text),
        "text/plain": f"{text}\n{plain}" if plain else text,
    }
