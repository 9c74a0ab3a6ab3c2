"""Reads a page over the engine's front door: all pieces of a page are requests of one batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ..engine.engine import Engine
from ..engine.request import RequestHandle, new_group
from ..errors import OmlxError, RequestError
from ..types import (
    Delta,
    FinishReason,
    Generation,
    ImagePart,
    Message,
    SamplingParams,
)
from .looks import Looks, mean
from .several import TICK_S, Several

if TYPE_CHECKING:
    import numpy as np

    from ..images.decoded import DecodedImage
    from ..models.layout_model import LayoutModel
    from ..reading.recipe import Recipe
    from ..reading.types import Box, Line, Page
    from .documents import CutDocument, RegionDocument

_SPARE_TOKENS = 16  # of a piece's answer, over a character every three pixels


@dataclass(frozen=True)
class TextLine:
    """A line that was read. `box` is four corners (x, y) in the picture's pixels, clockwise from the left top;
    `logprob` is the mean of its tokens' natural log-probabilities."""

    text: str
    box: Box
    logprob: float


@dataclass(frozen=True)
class PageText(Generation):
    """A page's answer. `usage` counts the page as one picture; `lines` is empty where it was read whole."""

    lines: tuple[TextLine, ...] = ()


def recipe_for(engine: Any) -> Recipe | None:
    """How the engine's checkpoint wants pages read; None if it says nothing.

    :raises ModelError: its reading.json is damaged.
    """
    found: Recipe | None = engine.recipe
    return found


def read_picture(
    engine: Engine,
    pictures: Sequence[DecodedImage],
    prompt: str | None = None,
    sampling: SamplingParams | None = None,
    whole: bool = False,
    system: str | None = None,
    *,
    draft: bool = True,
    hint: str = "",
    begin: str = "",
    layout: LayoutModel | bool = False,
) -> Reading:
    """Read pictures as their checkpoint wants it: one picture without a prompt by its recipe, unless `whole`.

    With `layout`, a detector or True for white space, that picture is read region by region (chat/documents.py).
    `draft`, `hint` and `begin` are as in `Engine.submit`; without a hint what the pictures' sources say is one.

    :raises EngineClosedError: the engine was closed.
    :raises RequestError: a layout is wanted of several pictures, or beside a prompt.
    :raises ModelError: the detector failed.
    """
    alone = len(pictures) == 1 and not (prompt or system or begin)
    if layout is not False:
        from .documents import read_document

        if not alone:
            raise RequestError(
                "a layout is of one picture, whose regions have words of their own; leave the others out."
            )
        detector = None if layout is True else layout
        return read_document(engine, pictures[0], detector, sampling, draft=draft, hint=hint)
    recipe = recipe_for(engine) if alone and not whole else None
    if recipe is not None:
        return read_page(engine, pictures[0], recipe, sampling, draft=draft, hint=hint)
    parts: list[Any] = [*(ImagePart(picture) for picture in pictures), *([prompt] if prompt else [])]
    hint = hint or "\n".join(picture.text for picture in pictures if picture.text)
    asked = [Message("user", parts)]
    return engine.submit(asked, sampling=sampling, system=system, draft=draft, hint=hint, begin=begin)


def read_page(
    engine: Engine,
    picture: DecodedImage,
    recipe: Recipe,
    sampling: SamplingParams | None = None,
    *,
    draft: bool = True,
    hint: str = "",
    figures: bool = False,
) -> PageHandle:
    """Cut the page, queue its pieces and return; the handle is used as a `RequestHandle` is.

    A page that can't be cut is read whole, and its `notes` say why; one without ink costs nothing.

    :raises EngineClosedError: the engine was closed.
    """
    from ..images.decoded import DecodedImage

    began = time.monotonic()
    page = cut_page(picture, recipe, figures)
    group = new_group()
    wanted, hint = sampling or SamplingParams(), hint or picture.text
    if page.whole:
        told = replace(wanted, logprobs=wanted.logprobs or 0)
        handle = engine.submit(images=[picture], sampling=told, draft=draft, hint=hint)
        return PageHandle(page, recipe, [[handle]], began)

    def submit(pixels: np.ndarray, said: str) -> RequestHandle:
        image, bound = DecodedImage(pixels, picture.source), _for_piece(wanted, pixels.shape[1])
        return engine.submit(images=[image], sampling=bound, draft=draft, hint=said, group=group)

    rows: list[list[Looks]] = []
    try:
        for line in page.lines:
            rows.append([])
            for piece in line.pieces:
                rows[-1].append(Looks(submit, piece, recipe, hint))
    except BaseException:
        for looks in (looks for row in rows for looks in row):
            looks.cancel()
        raise
    return PageHandle(page, recipe, rows, began, limited=wanted.max_tokens is not None)


def cut_page(picture: DecodedImage, recipe: Recipe, figures: bool = False) -> Page:
    """Its lines; a machine on which OpenCV can't be loaded reads pages whole and says what it lacks."""
    try:
        from ..reading.page import cut
    except ImportError as error:
        from ..reading.types import Page

        reason = f"OpenCV can't be loaded ({error}); on Linux: apt install libgl1 libglib2.0-0"
        return Page((), (picture.width, picture.height), whole=True, reason=reason)
    return cut(picture.pixels, recipe, figures)


def _for_piece(wanted: SamplingParams, width: int) -> SamplingParams:
    """A piece's answer is at most so long that nonsense ends soon."""
    most = width // 3 + _SPARE_TOKENS
    return replace(wanted, logprobs=wanted.logprobs or 0, max_tokens=min(wanted.max_tokens or most, most))


class PageHandle(Several[PageText]):
    """A page that is being read. Iterate it (also with `async for`) for its lines as they come, in order.

    The blanks that indent fixed-width type are known at the end only: `result().text` has them, the pieces
    of the stream don't.
    """

    def __init__(
        self,
        page: Page,
        recipe: Recipe,
        rows: Sequence[Sequence[Looks | RequestHandle]],
        began: float,
        limited: bool = False,
    ) -> None:
        self.page = page
        self._limited = limited  # the user bounds what a piece may say
        self._recipe, self._rows = recipe, rows
        super().__init__([handle for row in rows for handle in row], began)
        self._told = 0  # lines that `poll` has looked at
        self._held: list[tuple[str, TextLine]] = []  # (what stands before it, a line that isn't believed yet)
        self._sure = self._said = False
        self._break = ""

    def poll(self, timeout: float | None = 0.0) -> tuple[list[Delta], bool]:
        """(the text of lines that were finished, whether that was all), waiting at most `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.page.whole:
            return self._poll_whole(timeout)
        while True:
            made = self._ready_lines()
            ended = self._told == len(self._rows)
            left = None if deadline is None else deadline - time.monotonic()
            if made or ended or (left is not None and left <= 0):
                return made, ended
            waited = next(handle for handle in self._rows[self._told] if not handle.done)
            waited.poll(TICK_S if left is None else min(left, TICK_S))

    def _poll_whole(self, timeout: float | None) -> tuple[list[Delta], bool]:
        """All at once: whether the answer is probable is known at its end."""
        ended = self._handles[0].poll(timeout)[1]
        while timeout is None and not ended:
            ended = self._handles[0].poll(None)[1]
        if not ended or self._told:
            return [], ended
        self._told = 1
        try:
            text = self.result().text
        except OmlxError:
            text = ""
        return ([Delta(text)] if text else []), True

    def _ready_lines(self) -> list[Delta]:
        from ..reading.sure import is_sure, least_logprob

        while self._told < len(self._rows) and all(handle.done for handle in self._rows[self._told]):
            line = self.page.lines[self._told]
            read = self._read(line, self._rows[self._told], failing=False)
            self._held.append((line.before, read or TextLine("", line.box, 0.0)))
            self._sure = self._sure or is_sure(self._held[-1][1].text, self._held[-1][1].logprob, self._recipe)
            self._told += 1
        known = self._sure or self._told == len(self._rows)
        surely = least_logprob(self._recipe, sure=False)
        made: list[Delta] = []
        while self._held and (known or self._held[0][1].logprob >= surely):
            before, read = self._held.pop(0)
            self._break = max(self._break, before, key=len)
            if read.text and read.logprob >= least_logprob(self._recipe, self._sure):
                made.append(Delta((self._break if self._said else "") + read.text))
                self._said, self._break = True, ""
        return made

    def result(self, timeout: float | None = None) -> PageText:
        """Wait for the end.

        :raises OmlxError: a piece failed.
        :raises TimeoutError: it didn't end in time; it goes on running.
        """
        if self._result is None:
            if not self.wait(timeout):
                raise TimeoutError(f"the page is still being read after {timeout} s")
            self._result = self._whole() if self.page.whole else self._joined()
        return self._result

    def _whole(self) -> PageText:
        from ..reading.sure import least_of

        made = self._handles[0].result()
        notes = (f"read whole: {self.page.reason}", *made.notes)
        text, sure = made.text, mean(made.logprobs or ())
        if text.strip() and sure < least_of([(text, sure)], self._recipe):
            text, notes = "", (*notes, "the answer was improbable and is left out")
        return PageText(**{**vars(made), "text": text, "usage": self.sums(), "notes": notes})

    def texts(self) -> tuple[list[list[str | None]], tuple[TextLine, ...], int]:
        """Of a page that ended: (each line's pieces, None where it is left out; the lines that are kept; how many
        improbable ones aren't)."""
        from ..reading.sure import least_of

        reads = [self._read(line, row) for line, row in zip(self.page.lines, self._rows, strict=True)]
        told = [read for read in reads if read is not None and read.text]
        least = least_of([(read.text, read.logprob) for read in told], self._recipe)
        lines = tuple(read for read in told if read.logprob >= least)
        texts = [
            [handle.result().text if read in lines else None for handle in row]
            for read, row in zip(reads, self._rows, strict=True)
        ]
        return texts, lines, len(told) - len(lines)

    def _joined(self) -> PageText:
        from ..reading.page import join

        texts, lines, improbable = self.texts()
        done = [handle.result() for handle in self._handles]
        reason, detail = self._ended(done)
        turned = "" if lines else "; if the page stands on its side or head, turn it first"
        left_out = (f"{improbable} improbable line{'s' * (improbable != 1)} left out{turned}",) if improbable else ()
        logprobs = [item for d in done for item in d.logprobs or ()]
        return PageText(
            text=join(self.page, texts),
            token_ids=[token for d in done for token in d.token_ids],
            finish_reason=reason,
            detail=detail,
            usage=self.sums(),
            notes=(*self.page.notes, *left_out),
            logprobs=logprobs,
            lines=lines,
        )

    def _ended(self, done: Sequence[Generation]) -> tuple[FinishReason, str]:
        """How the page ended, from how its pieces did. Only a limit that the user set counts as one."""
        if any(part.finish_reason == "cancelled" for part in done):
            return "cancelled", ""
        cut = sum(part.finish_reason == "length" for part in done)
        if cut and self._limited:
            return "length", f"max_tokens reached in {cut} of {len(done)} pieces"
        return "stop", ""

    def _read(self, line: Line, row: Sequence[Looks | RequestHandle], failing: bool = True) -> TextLine | None:
        """A line of finished pieces. None if one failed; empty if it was stopped before its end."""
        try:
            done = [handle.result() for handle in row]
        except OmlxError:
            if failing:
                raise
            return None
        if any(part.finish_reason == "cancelled" for part in done):
            return TextLine("", line.box, 0.0)
        sure = mean([item for part in done for item in part.logprobs or ()])
        words = [(piece.before, part.text.strip()) for piece, part in zip(line.pieces, done, strict=True)]
        text = ""
        for before, word in words:
            text += (before if text and word else "") + word
        return TextLine(text, line.box, sure)


# A picture that is being read: by lines, whole, or by regions
Reading: TypeAlias = "PageHandle | RequestHandle | CutDocument | RegionDocument"
