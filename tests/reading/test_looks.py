"""Doubtful lines are read again, a little larger, and the most probable answer is taken."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from omlx_jupyter import Engine
from omlx_jupyter.chat.looks import Looks, alike, chosen, doubtful
from omlx_jupyter.chat.pages import read_page, recipe_for
from omlx_jupyter.errors import EngineFaultError
from omlx_jupyter.images.source import open_images
from omlx_jupyter.reading.recipe import Recipe
from omlx_jupyter.reading.types import Piece
from omlx_jupyter.types import Generation, TokenLogprob, Usage

from ..conftest import draw_text, no_cache

TEXT = "Tickets cost 12.50\nThe office opens at nine\nChildren travel free"


def said(text: str, sure: float, reason: Any = "stop") -> Generation:
    logprobs = [TokenLogprob(1, sure)]
    return Generation(text, [1], reason, Usage(completion_tokens=1), logprobs=logprobs)


def test_what_is_doubtful() -> None:
    recipe = Recipe()
    assert doubtful(said("Total 12", -0.05), recipe)
    assert not doubtful(said("Total 12", -0.001), recipe)
    assert not doubtful(said("Total 12", -0.34), recipe)  # hopeless: it must not become more probable
    assert not doubtful(said("~-", -0.05), recipe)
    assert not doubtful(said("Total 12", -0.05, "cancelled"), recipe)
    assert not doubtful(said("Total 12", -0.05), replace(recipe, again=0))


def test_the_most_probable_of_those_that_say_nearly_the_same() -> None:
    first = said("lnvoice 17", -0.05)
    assert chosen([first, said("Invoice 17", -0.01), said("Involce 17", -0.03)]).text == "Invoice 17"
    assert chosen([first, said("I", -0.001)]).text == "lnvoice 17"
    assert chosen([first, said("Invoice 17", -0.01, "length")]).text == "lnvoice 17"
    assert alike("Invoice 17", "lnvoice 17")
    assert not alike("Invoice 17", "In 17")


class Scripted:
    """A request that ends when it is told to."""

    number = 1

    def __init__(self, answer: Generation | Exception) -> None:
        self.answer, self.over, self.cancelled = answer, threading.Event(), False
        self.usage = Usage(completion_tokens=1)

    @property
    def done(self) -> bool:
        return self.over.is_set()

    settled = done

    def poll(self, timeout: float | None = 0.0) -> tuple[list[Any], bool]:
        return [], self.over.wait(timeout)

    def cancel(self) -> None:
        self.cancelled = True

    def result(self, timeout: float | None = None) -> Generation:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def looks(*answers: Generation | Exception) -> tuple[Looks, list[Scripted], list[tuple[int, str]]]:
    """Looks at a piece, the requests as they are made, and what each was asked with."""
    made: list[Scripted] = []
    asked: list[tuple[int, str]] = []

    def submit(pixels: np.ndarray, hint: str) -> Any:
        made.append(Scripted(answers[len(made)]))
        asked.append((int(pixels[0, 0, 0]), hint))
        return made[-1]

    def drawn(ink: int) -> np.ndarray:
        return np.full((32, 160, 3), ink, np.uint8)

    return Looks(submit, Piece(drawn(16), (), 100.0, "", drawn), Recipe(), "a hint"), made, asked


def test_larger_looks_are_asked_for_with_what_the_first_said() -> None:
    piece, made, asked = looks(said("lnvoice", -0.05), said("Invoice", -0.01), said("Involce", -0.02))
    assert not piece.done
    assert asked == [(16, "a hint")]
    made[0].over.set()
    assert not piece.done
    assert asked[1:] == [(17, "lnvoice"), (18, "lnvoice")]
    with pytest.raises(TimeoutError):
        piece.result(timeout=0.01)
    for handle in made[1:]:
        handle.over.set()
    assert piece.done
    assert piece.result().text == "Invoice"
    assert piece.result().usage.completion_tokens == 3


def test_a_sure_answer_is_looked_at_once() -> None:
    piece, made, _ = looks(said("Invoice", -0.001))
    made[0].over.set()
    assert piece.done
    assert len(made) == 1


def test_a_later_look_that_fails_costs_nothing_and_a_first_one_is_told() -> None:
    fault = EngineFaultError("a fault")
    piece, made, _ = looks(said("Invoice", -0.05), fault, said("Invoice", -0.01))
    made[0].over.set()
    assert not piece.done
    for handle in made:
        handle.over.set()
    assert piece.result().text == "Invoice"
    piece, made, _ = looks(fault)
    made[0].over.set()
    assert piece.done
    with pytest.raises(EngineFaultError):
        piece.result()


def test_a_cancelled_piece_is_not_looked_at_again() -> None:
    piece, made, _ = looks(said("Invoice", -0.05))
    piece.cancel()
    made[0].over.set()
    assert piece.done
    assert made[0].cancelled
    assert len(made) == 1


def test_through_the_engine_a_mistake_is_mended() -> None:
    """Everything is doubtful: every line is read three times, told once, in order."""
    image = open_images(draw_text(TEXT, 20))[0]
    with Engine.load(cache=no_cache()) as engine:
        recipe = recipe_for(engine)
        assert recipe is not None
        once = read_page(engine, image, replace(recipe, again=0)).result()
        handle = read_page(engine, image, replace(recipe, doubt=0.0))
        pieces = [delta.text for delta in handle]
        thrice = handle.result()
        assert thrice.text == "".join(pieces) == TEXT
        assert [line.text for line in thrice.lines] == TEXT.splitlines()
        assert thrice.usage.images == 1
        assert thrice.usage.completion_tokens > 2 * once.usage.completion_tokens
        stopped = read_page(engine, image, replace(recipe, doubt=0.0))
        stopped.cancel()
        assert stopped.result().finish_reason == "cancelled"
