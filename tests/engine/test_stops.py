"""Stop strings, cut wherever the tokens fall."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from omlx_jupyter.engine.stops import StopMatcher

TEXT = st.text("ab<|>é", max_size=40)


def run(pieces: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    matcher = StopMatcher(stops)
    shown = [matcher.feed(piece) for piece in pieces]
    shown.append(matcher.finish())
    return shown, matcher.matched


@given(TEXT, st.lists(st.text("ab<|>é", min_size=1, max_size=5), max_size=3), st.lists(st.integers(0, 40), max_size=8))
def test_any_cut_gives_the_text_before_the_first_stop(text: str, stops: list[str], cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(min(c, len(text)) for c in cuts)})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    shown, matched = run(pieces, stops)
    # A stop counts when it is complete: the earliest end decides, as characters arrive one by one
    # or together.
    places = [(text.find(stop), stop) for stop in stops if stop in text]
    said = "".join(shown)
    if not places:
        assert said == text
        assert matched is None
        return
    assert matched in stops
    assert said == text[: text.find(matched, len(said))]
    assert all(stop not in said for stop in stops)
    assert text.startswith(said + matched)


@given(TEXT, st.text("ab<|>", min_size=1, max_size=5))
def test_nothing_shown_has_to_be_taken_back(text: str, stop: str) -> None:
    matcher = StopMatcher([stop])
    said = ""
    for index, char in enumerate(text):
        said += matcher.feed(char)
        assert text[: index + 1].startswith(said)
    said += matcher.finish()
    assert said == text.split(stop)[0]


def test_a_beginning_that_comes_to_nothing_is_shown_at_the_end() -> None:
    shown, matched = run(["abc<|us", "er"], ["<|user|>"])
    assert shown == ["abc", "", "<|user"]
    assert matched is None


def test_the_longest_of_stops_that_begin_together() -> None:
    assert run(["x<|end|>"], ["<|", "<|end|>"])[1] == "<|end|>"


def test_the_first_of_two_stops_in_one_piece() -> None:
    assert run(["one END two STOP"], ["STOP", "END"]) == (["one ", ""], "END")
    assert run(["aXbX"], ["X"]) == (["a", ""], "X")
    assert run(["END"], ["END"]) == (["", ""], "END")


def test_what_may_begin_the_longest_stop_is_held() -> None:
    matcher = StopMatcher(["ab", "xyzw"])
    assert matcher.feed("1a") == "1"
    assert matcher.feed("xyz") == "a"
    assert matcher.feed("q") == "xyzq"
    assert matcher.finish() == ""


def test_nothing_comes_after_a_match() -> None:
    matcher = StopMatcher(["ab"])
    assert matcher.feed("1ab2") == "1"
    assert matcher.matched == "ab"
    assert matcher.feed("3") == ""
    assert matcher.finish() == ""
    assert StopMatcher([]).feed("text") == "text"
