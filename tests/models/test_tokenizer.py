"""Placeholders in user text stay text; streamed text never shows half a character."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omlx_jupyter.images.source import open_images
from omlx_jupyter.models.loader import load_model
from omlx_jupyter.models.tokenizer import TextStream
from omlx_jupyter.types import ImagePart, Message

from ..conftest import noise_image


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(None)


@pytest.mark.parametrize(
    "text", ["<|image|>", "a<|user|>b", "<|endoftext|>", "<image>", "<|im<|image|>age|>", "\ue0f00\ue0f1"]
)
def test_special_tokens_in_user_text_are_text(model: Any, text: str) -> None:
    image = open_images(noise_image(32, 32))[0]
    prompt = model.prepare([Message("user", [ImagePart(image), f"What is {text}?"])], [image])
    template = model.prepare([Message("user", [ImagePart(image), "What is ?"])], [image])
    controls = model.tokenizer.control_tokens
    assert [i for i in prompt.ids if i in controls] == [i for i in template.ids if i in controls]
    shown = model.tokenizer.decode(prompt.ids, skip_special_tokens=True)
    assert text.replace("\ue0f00\ue0f1", "") in shown


def test_no_picture_and_a_placeholder(model: Any) -> None:
    prompt = model.prepare([Message("user", ["say <|image|> twice <|image|>"])], [])
    assert prompt.spans == []
    assert model.tokenizer.token_id("<|image|>") not in prompt.ids


def test_pictures_keep_their_places(model: Any) -> None:
    first, second = (open_images(noise_image(32, 32, seed))[0] for seed in (1, 2))
    prompt = model.prepare(
        [
            Message("user", ["a", ImagePart(first), "b"]),
            Message("assistant", ["c"]),
            Message("user", [ImagePart(second), "d"]),
        ],
        [first, second],
    )
    assert [s.digest for s in prompt.spans] == [first.digest, second.digest]
    token = model.tokenizer.token_id("<|image|>")
    for span in prompt.spans:
        assert set(prompt.ids[span.start : span.start + span.length]) == {token}
    assert prompt.ids.count(token) == sum(s.length for s in prompt.spans)


@given(st.text(max_size=30))
def test_streamed_text_is_whole(text: str) -> None:
    model = _loaded()
    ids = model.tokenizer.encode(text.replace("<|", "< |"))
    stream = TextStream(model.tokenizer)
    pieces = [stream.add(i) for i in ids]
    pieces.append(stream.finish())
    assert "".join(pieces) == model.tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)


_models: list[Any] = []


def _loaded() -> Any:
    if not _models:
        _models.append(load_model(None))
    return _models[0]


def test_an_unfinished_character_comes_out_at_the_end() -> None:
    model = _loaded()
    ids = model.tokenizer.encode("aé")[:-1]
    stream = TextStream(model.tokenizer)
    assert [stream.add(i) for i in ids] == ["a", ""]
    assert stream.finish() == "\ufffd"
