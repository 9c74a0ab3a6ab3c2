"""Thoughts told from answers: markers as checkpoints have them, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omlx_jupyter.models.thinking import _KINDS, Markers, Thoughts, markers_of, opened_by

QWEN = Markers("<think>", "</think>")
GPT = next(kind for kind in _KINDS if kind.headers)


def split(pieces: list[str], markers: Markers | None = QWEN, opened: bool = False) -> tuple[str, str]:
    thoughts = Thoughts(markers, opened)
    made = [thoughts.feed(piece) for piece in pieces] + [thoughts.finish()]
    return "".join(t for t, _ in made), "".join(s for _, s in made)


CASES = [
    ("<think>\nhm, 2 < 3\n</think>\n\nYes.", False, ("hm, 2 < 3", "Yes.")),
    ("hm\n</think>\n\nYes.", True, ("hm", "Yes.")),
    ("\nhm\n\nand more\n</think>Yes.\n", True, ("hm\n\nand more", "Yes.\n")),
    ("Yes.", False, ("", "Yes.")),
    ("  Yes.", False, ("", "  Yes.")),
    ("The tag <think> opens </think> it.", False, ("", "The tag <think> opens </think> it.")),
    ("<think>one</think><think>two</think>Yes.", False, ("onetwo", "Yes.")),
    ("<think></think>\n\nYes. </think>", False, ("", "Yes. </think>")),
    ("never closed </thin", True, ("never closed </thin", "")),
    ("<think", False, ("", "<think")),
    ("<thing>", False, ("", "<thing>")),
    ("", True, ("", "")),
    ("</think>", True, ("", "")),
    ("</think>\n\n", True, ("", "")),
]


@pytest.mark.parametrize(("text", "opened", "wanted"), CASES)
def test_thought_and_answer(text: str, opened: bool, wanted: tuple[str, str]) -> None:
    assert split([text], opened=opened) == wanted
    assert split(list(text), opened=opened) == wanted


@pytest.mark.parametrize("markers", _KINDS, ids=lambda kind: kind.open)
def test_each_kind(markers: Markers) -> None:
    header = markers.headers[0] if markers.headers else markers.after
    text = f"{markers.open}Two and two.{markers.close}{header}Four."
    assert split(list(text), markers) == ("Two and two.", "Four.")
    assert split([text[: len(markers.open) + 4], text[len(markers.open) + 4 :]], markers) == ("Two and two.", "Four.")
    assert split(list(f"Two{markers.closing}Four."), markers, opened=True) == ("Two", "Four.")
    assert split(list(f"{markers.skipping}Four."), markers) == ("", "Four.")


def test_a_header_without_a_thought_is_dropped() -> None:
    assert split(list("<|channel|>final<|message|>Four."), GPT) == ("", "Four.")
    assert split(list("<|channel|>commentary to=f<|message|>{}"), GPT) == (
        "",
        "<|channel|>commentary to=f<|message|>{}",
    )


PARTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "thi", "nk>", "\n", " ", "a", "é", "</", "<think"]), max_size=9
)


@given(PARTS, st.booleans(), st.data())
def test_it_makes_no_difference_where_pieces_are_cut(parts: list[str], opened: bool, data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(pieces, opened=opened) == split([text], opened=opened)
    assert split(pieces, None) == ("", text)


def test_markers_are_found() -> None:
    assert markers_of({"<think>", "</think>", "a"}, "") == QWEN
    assert markers_of({"a"}, "{{ '<think>\n' }}") is None
    assert markers_of({"a"}, "{% if x %}◁think▷{% else %}◁/think▷{% endif %}") == Markers("◁think▷", "◁/think▷")
    assert markers_of({"<|channel>", "<channel|>"}, "") == next(k for k in _KINDS if k.close == "<channel|>")
    assert markers_of({"<|channel|>", "<|message|>", "<|end|>"}, "") == GPT
    assert markers_of({"[THINK]", "[/THINK]"}, "") == Markers("[THINK]", "[/THINK]", after="")
    assert markers_of({"</think>"}, "{{ '<think>\n' }}") == QWEN  # only the template opens it
    assert markers_of(set(), "") is None


def test_a_prompt_may_open_the_thought() -> None:
    assert opened_by(QWEN, "<|im_start|>assistant\n<think>\n")
    assert not opened_by(QWEN, "<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opened_by(QWEN, "<think> is a tag<|im_start|>assistant\n")
    assert not opened_by(None, "<think>")
