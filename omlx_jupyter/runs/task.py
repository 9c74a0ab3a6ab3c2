"""One source on its way through a run: opened on a thread, asked, and made a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import EngineClosedError, OmlxError
from ..images.decoded import DecodedImage
from ..images.grounding import places
from ..types import Generation
from .agreement import agreement
from .confidence import confidence
from .question import Question, shown_sampling
from .record import Record
from .sources import Item

if TYPE_CHECKING:
    from ..engine.front import Front
    from ..engine.readable import Readable


class Task:
    """`poll` until it gives a record, or `unchanged` is set."""

    def __init__(
        self,
        item: Item,
        question: Question,
        engine: Callable[[], Front],
        pool: ThreadPoolExecutor,
        unless: str,
        asked: str,
    ) -> None:
        """`unless`: the digest of content that needs no asking; "" asks in any case."""
        self.item, self._question, self._engine, self._asked = item, question, engine, asked
        self._began = time.monotonic()
        self._unless, self._content = unless, ""
        self._pictures: list[DecodedImage] = []
        self._reading: Readable[Generation] | None = None
        self._again = False
        self._first: tuple[Generation, Any] | None = None  # of two readings
        self._cancelled = False
        self.unchanged = False
        self._opening: Future[None] | None = pool.submit(self._open)

    def _open(self) -> None:
        """On a thread of the pool."""
        pictures = self.item.open()
        self._content = "+".join(picture.digest for picture in pictures)
        if self._unless and self._content == self._unless:
            self.unchanged = True
            return
        self._pictures = pictures
        reading = self._question.ask(self._engine(), pictures)
        if self._cancelled:
            reading.cancel()
        self._reading = reading

    def cancel(self) -> None:
        self._cancelled = True
        if self._opening is not None:
            self._opening.cancel()
        if self._reading is not None:
            self._reading.cancel()

    def poll(self) -> Record | None:
        """The record, once the answer is whole.

        :raises EngineClosedError: nobody answers any longer.
        """
        try:
            if self._opening is not None:
                if not self._opening.done():
                    return None
                opening, self._opening = self._opening, None
                opening.result()
            if self.unchanged or self._reading is None or not self._reading.done:
                return None
            return self._answered(self._reading.result())
        except EngineClosedError:
            raise
        except OmlxError as error:
            if self._first is not None:
                return self._record(*self._first)  # the first reading stands; what the second would say isn't known
            return self._record(error=str(error))
        except Exception as error:  # of a source's own code, say
            return self._record(error=f"{type(error).__name__}: {error}")

    def _answered(self, answer: Generation) -> Record | None:
        if answer.thinking and not answer.text:
            return self._record(answer, error=f"there is no answer: {answer.detail or 'it ended inside its thought'}")
        try:
            value = self._question.value(answer.text)
        except Exception as error:  # of a validator's own code, too
            why = " ".join((str(error) or type(error).__name__).split())[:500]
            if answer.finish_reason == "length":
                return self._record(
                    answer, error=f"the answer was cut ({answer.detail}), so that it doesn't fit: {why}"
                )
            if self._first is not None:
                return self._compared(answer, None)
            if self._again:
                return self._record(answer, error=f"the answer doesn't fit: {why}")
            self._again = True
            self._reading = self._question.ask_again(self._engine(), self._pictures, answer.text, why)
            return None
        if self._first is not None:
            return self._compared(answer, value)
        if self._question.twice:
            self._first = (answer, value)
            self._reading = self._question.ask_twice(self._engine(), self._pictures)
            return None
        return self._record(answer, value)

    def _compared(self, answer: Generation, value: object) -> Record:
        """The first reading's record, with how far the second agrees."""
        assert self._first is not None
        first, kept = self._first
        agreed = agreement(first.text, answer.text) if kept is None else agreement(kept, value)
        other = answer.text if kept is None else value
        return replace(self._record(first, kept), agreement=agreed, other=other)

    def _record(self, answer: Generation | None = None, value: object = None, error: str = "") -> Record:
        engine, question = self._engine(), self._question
        made = Record(
            self.item.source,
            self.item.page,
            self.item.column,
            self._content,
            self.item.stamp,
            asked=self._asked,
            model=engine.name,
            prompt=question.prompt or "",
            sampling=shown_sampling(question.sampling_for(engine)),
            error=error,
            seconds=round(time.monotonic() - self._began, 3),
        )
        if answer is None:
            return made
        lines = [
            {"text": ln.text, "box": ln.box, "logprob": round(ln.logprob, 4)} for ln in getattr(answer, "lines", ())
        ]
        usage = {name: held for name, held in vars(answer.usage).items() if held}
        if drafted := usage.get("accepted_from"):
            usage["accepted_from"] = dict(drafted)
        sure = confidence(answer, value, engine)
        made = replace(made, text=answer.text, value=value, lines=lines, usage=usage, confidence=sure.least)
        return replace(made, sure=sure.fields, places=self._places(answer), finish_reason=answer.finish_reason)

    def _places(self, answer: Generation) -> dict[str, Sequence[tuple[float, float]]]:
        """By the path of the field that has a box, or by what the answer calls it."""
        if len(self._pictures) != 1:
            return {}
        picture = self._pictures[0]
        found = places(answer.text, self._engine().grounding, picture.width, picture.height)
        return {place.label or str(number): place.corners for number, place in enumerate(found, 1)}
