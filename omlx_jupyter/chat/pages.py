"""Reads a page over the engine's front door: all pieces of a page are requests of one batch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..engine.engine import Engine
from ..engine.phase import Phase
from ..engine.readable import Readable
from ..engine.request import Progress, RequestHandle, new_group
from ..errors import OmlxError
from ..types import (
    Delta,
    FinishReason,
    Generation,
    ImagePart,
    Message,
    SamplingParams,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    from ..images.decoded import DecodedImage
    from ..reading.recipe import Recipe
    from ..reading.types import Box, Line, Page

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
) -> Reading:
    """Read pictures as their checkpoint wants it: one picture without a prompt by its recipe, unless `whole`.

    `draft`, `hint` and `begin` are as in `Engine.submit`; without a hint what the pictures' sources say is one.

    :raises EngineClosedError: the engine was closed.
    """
    alone = len(pictures) == 1 and not (prompt or system or whole or begin)
    recipe = recipe_for(engine) if alone else None
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
) -> PageHandle:
    """Cut the page, queue its pieces and return; the handle is used as a `RequestHandle` is.

    A page that can't be cut is read whole, and its `notes` say why; one without ink costs nothing.

    :raises EngineClosedError: the engine was closed.
    """
    from ..images.decoded import DecodedImage

    began = time.monotonic()
    page = _cut(picture, recipe)
    group = new_group()
    wanted, hint = sampling or SamplingParams(), hint or picture.text
    if page.whole:
        told = replace(wanted, logprobs=wanted.logprobs or 0)
        handle = engine.submit(images=[picture], sampling=told, draft=draft, hint=hint)
        return PageHandle(page, recipe, [[handle]], began)
    rows: list[list[RequestHandle]] = []
    try:
        for line in page.lines:
            rows.append([])
            for piece in line.pieces:
                image = DecodedImage(piece.pixels, picture.source)
                rows[-1].append(
                    engine.submit(
                        images=[image],
                        sampling=_for_piece(wanted, piece.pixels.shape[1]),
                        draft=draft,
                        hint=hint,
                        group=group,
                    )
                )
    except BaseException:
        for handle in (handle for row in rows for handle in row):
            handle.cancel()
        raise
    return PageHandle(page, recipe, rows, began, limited=wanted.max_tokens is not None)


def _cut(picture: DecodedImage, recipe: Recipe) -> Page:
    """Its lines; a machine on which OpenCV can't be loaded reads pages whole and says what it lacks."""
    try:
        from ..reading.page import cut
    except ImportError as error:
        from ..reading.types import Page

        reason = f"OpenCV can't be loaded ({error}); on Linux: apt install libgl1 libglib2.0-0"
        return Page((), (picture.width, picture.height), whole=True, reason=reason)
    return cut(picture.pixels, recipe)


def _for_piece(wanted: SamplingParams, width: int) -> SamplingParams:
    """A piece's answer is at most so long that nonsense ends soon."""
    most = width // 3 + _SPARE_TOKENS
    return replace(wanted, logprobs=wanted.logprobs or 0, max_tokens=min(wanted.max_tokens or most, most))


class PageHandle(Readable[PageText]):
    """A page that is being read. Iterate it (also with `async for`) for its lines as they come, in order.

    The blanks that indent fixed-width type are known at the end only: `result().text` has them, the pieces
    of the stream don't.
    """

    def __init__(
        self, page: Page, recipe: Recipe, rows: list[list[RequestHandle]], began: float, limited: bool = False
    ) -> None:
        self.page = page
        self._limited = limited  # the user bounds what a piece may say
        self._recipe, self._rows, self._began = recipe, rows, began
        self._handles = [handle for row in rows for handle in row]
        self._told = 0  # lines that `poll` has looked at
        self._held: list[tuple[str, TextLine]] = []  # (what stands before it, a line that isn't believed yet)
        self._sure = self._said = False
        self._break = ""
        self._result: PageText | None = None

    @property
    def number(self) -> int:
        """The first piece's number; 0 for a page without ink."""
        return self._handles[0].number if self._handles else 0

    @property
    def done(self) -> bool:
        return all(handle.done for handle in self._handles)

    @property
    def settled(self) -> bool:
        return all(handle.settled for handle in self._handles)

    @property
    def progress(self) -> Progress:
        parts = [handle.progress for handle in self._handles]
        order = (Phase.DECODE, Phase.PREFILL, Phase.READING, Phase.QUEUED)
        phase = next((p for p in order if any(part.phase == p for part in parts)), Phase.DONE)
        return Progress(
            phase, sum(p.done for p in parts), sum(p.total for p in parts), sum(p.tokens for p in parts), images=1
        )

    @property
    def usage(self) -> Usage:
        """The page's figures so far."""
        return self._result.usage if self._result else self._usage()

    def in_background(self) -> PageHandle:
        """Let requests that somebody waits for go first."""
        for handle in self._handles:
            handle.in_background()
        return self

    def cancel(self) -> None:
        """End the page within one step; lines that are read are kept. From any thread."""
        for handle in self._handles:
            handle.cancel()

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
            waited.poll(left)

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
            deadline = None if timeout is None else time.monotonic() + timeout
            for handle in self._handles:
                handle.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
            self._result = self._whole() if self.page.whole else self._joined()
        return self._result

    def _whole(self) -> PageText:
        from ..reading.sure import least_of

        made = self._handles[0].result()
        notes = (f"read whole: {self.page.reason}", *made.notes)
        text, mean = made.text, _mean(made.logprobs or ())
        if text.strip() and mean < least_of([(text, mean)], self._recipe):
            text, notes = "", (*notes, "the answer was improbable and is left out")
        return PageText(**{**vars(made), "text": text, "usage": self._usage(), "notes": notes})

    def _joined(self) -> PageText:
        from ..reading.page import join
        from ..reading.sure import least_of

        reads = [self._read(line, row) for line, row in zip(self.page.lines, self._rows, strict=True)]
        told = [read for read in reads if read is not None and read.text]
        least = least_of([(read.text, read.logprob) for read in told], self._recipe)
        lines = tuple(read for read in told if read.logprob >= least)
        improbable = len(told) - len(lines)
        texts = [
            [handle.result().text if read in lines else None for handle in row]
            for read, row in zip(reads, self._rows, strict=True)
        ]
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
            usage=self._usage(),
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

    def _read(self, line: Line, row: Sequence[RequestHandle], failing: bool = True) -> TextLine | None:
        """A line of finished pieces. None if one failed; empty if it was stopped before its end."""
        try:
            done = [handle.result() for handle in row]
        except OmlxError:
            if failing:
                raise
            return None
        if any(part.finish_reason == "cancelled" for part in done):
            return TextLine("", line.box, 0.0)
        mean = _mean([item for part in done for item in part.logprobs or ()])
        words = [(piece.before, part.text.strip()) for piece, part in zip(line.pieces, done, strict=True)]
        text = ""
        for before, word in words:
            text += (before if text and word else "") + word
        return TextLine(text, line.box, mean)

    def _usage(self) -> Usage:
        """Sums over the pieces; times are the page's own."""
        parts = [handle.usage for handle in self._handles]
        now = time.monotonic() - self._began
        sums: dict[str, Any] = {
            name: sum(getattr(part, name) for part in parts)
            for name in (
                "prompt_tokens",
                "completion_tokens",
                "reasoning_tokens",
                "steps",
                "drafted",
                "accepted",
                "cached_tokens",
                "cached_tokens_ram",
                "cached_tokens_ssd",
                "saved_s",
            )
        }
        encoded = any(part.images_encoded for part in parts)
        first = min((part.ttft_s for part in parts if part.ttft_s), default=0.0)
        return Usage(
            **sums,
            accepted_from=sum((Counter(part.accepted_from) for part in parts), Counter()),
            images=1,
            images_encoded=int(encoded),
            images_reused=int(bool(parts) and not encoded and all(part.images_reused for part in parts)),
            queue_s=min((part.queue_s for part in parts), default=0.0),
            prepare_s=min((part.prepare_s for part in parts), default=0.0),
            ttft_s=first,
            total_s=now,
            decode_tokens_per_s=sums["completion_tokens"] / (now - first) if now > first > 0 else 0.0,
            peak_rows=max((part.peak_rows for part in parts), default=1),
        )


Reading = PageHandle | RequestHandle  # a picture that is being read, by lines or whole


def _mean(logprobs: Sequence[TokenLogprob]) -> float:
    return sum(item.logprob for item in logprobs) / len(logprobs) if logprobs else 0.0
