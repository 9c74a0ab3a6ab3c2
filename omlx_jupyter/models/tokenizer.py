"""Chat templates and token ids: rendered messages in, token ids with picture slots out."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, RequestError
from ..types import ImagePart, Message
from .dates import Dates, told
from .families import TEXT_ONLY, Family
from .switches import PLAIN, TemplateUse, choose
from .thinking import Markers, markers_of, opened_by, special_words

if TYPE_CHECKING:
    from .shapes import Tokenizer

# User text that spells a special token is swapped for one of these while the template is rendered,
# so that it stays text. Private-use characters: no template or tokenizer gives them a meaning.
_GUARD_OPEN, _GUARD_CLOSE = "\ue0f0", "\ue0f1"
_GUARD = re.compile(f"{_GUARD_OPEN}(\\d+){_GUARD_CLOSE}")


class ChatTokenizer:
    """A tokenizer with its chat template, safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, template_owner: object, family: Family = TEXT_ONLY) -> None:
        self._family, self._dates = family, Dates()
        self.inner = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._template_owner = template_owner
        self.placeholder = placeholder = family.placeholder
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        specials = {str(t) for t in added if getattr(t, "special", False)}
        specials.update(str(t) for t in getattr(tokenizer, "all_special_tokens", ()))
        specials.update(t for t in (placeholder, "<image>", "<video>") if t)
        found = sorted((s for s in specials if len(s) > 2), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, found))) if found else None
        self.control_tokens = frozenset(getattr(tokenizer, "all_special_ids", ()))
        self.special_texts = frozenset(found)  # what decoding leaves out
        self.markers: Markers | None = markers_of(tokenizer.get_vocab(), self._template() or "")
        shown = special_words(self.markers, found)
        self.marker_tokens = {self.token_id(word): word for word in shown}  # which decoding would leave out

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(self.inner.encode(text, add_special_tokens=add_special_tokens)) if text else []

    def encode_literal(self, text: str) -> list[int]:
        """Ids of the spelling of one special token, cut after its first character so that it stays text."""
        return self.encode(text[:1]) + self.encode(text[1:])

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        if self._backend is not None:  # per token and row: worth leaving transformers' Python layers out
            return str(self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens))
        return str(
            self.inner.decode(list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)
        )

    def token_id(self, text: str) -> int | None:
        """The id of a string that is one token of the vocabulary, else None."""
        found = self.inner.get_vocab().get(text)
        return None if found is None else int(found)

    def render(self, messages: Sequence[Message], use: TemplateUse = PLAIN) -> tuple[str, list[str]]:
        """The chat template's text with guarded user text, and what the guards stand for.

        :raises RequestError: the template refuses the messages, or doesn't know a word of `use`.
        """
        guarded: list[str] = []
        rendered = [{"role": m.role, "content": self._content(m, guarded), **m.extra} for m in messages]
        with told(self._dates.of(messages)):
            text = self._apply(rendered, use) if self.has_template else self._plain(rendered)
        return self._with_beginning(text, use, guarded), guarded

    def _with_beginning(self, text: str, use: TemplateUse, guarded: list[str]) -> str:
        """The prompt, and behind it what its answer begins with."""
        if not use.begin:
            return text
        if opened_by(self.markers, text):
            text = self._without_thought(text)
        return text + str(self._content(Message("assistant", [use.begin]), guarded))

    def render_formatted(
        self,
        messages: Sequence[Message],
        form: Callable[[str, Message], Any],
        join: Callable[[list[Any]], str],
        use: TemplateUse = PLAIN,
    ) -> tuple[str, list[str]]:
        """As `render`: each message's guarded text, without pictures, goes through `form`, and all through `join`."""
        guarded: list[str] = []
        texts = [Message(m.role, [p for p in m.parts if not isinstance(p, ImagePart)]) for m in messages]
        formed = [form(str(self._content(t, guarded)), m) for t, m in zip(texts, messages, strict=True)]
        return self._with_beginning(join(formed), use, guarded), guarded

    def _content(self, message: Message, guarded: list[str]) -> Any:
        """A message's text, or its parts where there are pictures; special tokens' spellings go to `guarded`."""

        def guard(match: re.Match[str]) -> str:
            guarded.append(match.group())
            return f"{_GUARD_OPEN}{len(guarded) - 1}{_GUARD_CLOSE}"

        parts: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, ImagePart):
                parts.append({"type": "image"})
            else:
                text = _GUARD.sub("", str(part))
                parts.append({"type": "text", "text": self._special.sub(guard, text) if self._special else text})
        if not any(p["type"] == "image" for p in parts):
            return "".join(p["text"] for p in parts)
        return parts

    def _apply(self, rendered: list[Any], use: TemplateUse) -> str:
        from .templates import TemplateLimitError, check_output, limits

        template = self._template(bool(use.tools))
        chosen = choose(use, template, self.markers, self._renders_in_python)
        size = _characters(rendered) + _characters(use.tools) + _characters(chosen.words)
        try:
            with limits(size):
                text = self.inner.apply_chat_template(
                    rendered,
                    chat_template=template,
                    tools=use.tools,
                    tokenize=False,
                    add_generation_prompt=True,
                    **chosen.words,
                )
            text = check_output(str(text), size)
            return self._without_thought(text) if chosen.skip_thought else text
        except TemplateLimitError:
            raise
        except Exception as error:
            raise RequestError(f"the model's chat template refuses these messages ({error}).") from error

    @property
    def _renders_in_python(self) -> bool:
        from transformers import PreTrainedTokenizerBase

        own = getattr(type(self.inner), "apply_chat_template", None)
        return own is not PreTrainedTokenizerBase.apply_chat_template

    def _without_thought(self, text: str) -> str:
        """A prompt whose answer begins behind an empty thought: for templates that have no switch."""
        assert self.markers is not None
        if opened_by(self.markers, text):
            return f"{text.rstrip()}\n\n{self.markers.close}{self.markers.after}"
        return text + self.markers.skipping

    def _plain(self, rendered: list[dict[str, Any]]) -> str:
        """For checkpoints with no chat template: the parts one after the other, a line for each picture."""
        lines = []
        for message in rendered:
            content = message["content"]
            if isinstance(content, str):
                lines.append(content)
                continue
            picture = f"{self.placeholder}{self._family.after_picture}"
            lines.append("".join(picture if p["type"] == "image" else p["text"] for p in content))
        return "\n".join(lines)

    @property
    def has_template(self) -> bool:
        """Whether prompts go through a chat template."""
        return bool(not self._family.plain and self._template())

    @property
    def template_text(self) -> str:
        """The chat template that is used with tools; "" where there is none."""
        return self._template(for_tools=True) or ""

    def _template(self, for_tools: bool = False) -> str | None:
        """The chat template; of several by name the default, or that for tools."""
        found = getattr(self._template_owner, "chat_template", None) or getattr(self.inner, "chat_template", None)
        if isinstance(found, list):  # as older tokenizer_config.json have them
            found = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        if isinstance(found, dict):
            names = ("tool_use", "default") if for_tools else ("default",)
            found = next((found[name] for name in names if name in found), next(iter(found.values()), None))
        return found if isinstance(found, str) else None

    def unguard(self, text: str, guarded: list[str], joiner: str) -> str:
        """The text with guarded spellings put back, `joiner` after their first character."""
        return _GUARD.sub(lambda m: guarded[int(m.group(1))][:1] + joiner + guarded[int(m.group(1))][1:], text)

    def split(self, text: str, guarded: list[str]) -> list[list[int]]:
        """Token ids around each picture of a rendered text: n pictures give n + 1 lists."""
        pieces = text.split(self.placeholder) if self.placeholder else [text]
        found = [self._encode_piece(piece, guarded) for piece in pieces]
        if self._family.bos is not None:
            found[0].insert(0, self._family.bos)
            return found
        bos = getattr(self.inner, "bos_token_id", None)
        if bos is not None and found[0][:1] != [bos] and self.encode("", add_special_tokens=True)[:1] == [bos]:
            found[0].insert(0, bos)
        return found

    def _encode_piece(self, piece: str, guarded: list[str]) -> list[int]:
        ids: list[int] = []
        for index, part in enumerate(_GUARD.split(piece)):
            ids += self.encode_literal(guarded[int(part)]) if index % 2 else self.encode(part)
        return ids


def _characters(value: object) -> int:
    if isinstance(value, dict):
        return sum(8 + _characters(held) for held in value.values())
    if isinstance(value, (list, tuple)):
        return sum(8 + _characters(held) for held in value)
    return len(value) if isinstance(value, str) else 8


class TextStream:
    """Token ids in, whole characters out: half a UTF-8 character waits for its other half."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._from = self._read = 0
        self.inside = False  # the last token ended inside a character

    def fork(self) -> TextStream:
        made = copy.copy(self)
        made._ids = list(self._ids)
        return made

    def add(self, token: int) -> str:
        marker = self._tokenizer.marker_tokens.get(token)
        if marker is not None:  # a special token that says where a thought begins or ends
            return self.finish() + marker
        self._ids.append(token)
        shown = self._tokenizer.decode(self._ids[self._from : self._read])
        text = self._tokenizer.decode(self._ids[self._from :])
        self.inside = text.endswith("\ufffd")
        if self.inside or len(text) <= len(shown):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return text[len(shown) :]

    def finish(self, cut: bool = False) -> str:
        """What is left. An incomplete character comes out as U+FFFD, or not at all where the answer was `cut`."""
        shown = self._tokenizer.decode(self._ids[self._from : self._read])
        text = self._tokenizer.decode(self._ids[self._from :])
        self._from = self._read = len(self._ids)
        left = text[len(shown) :]
        return left.rstrip("\ufffd") if cut else left


def require_template_pictures(pieces: int, pictures: int) -> None:
    """:raises ModelError: the template dropped or doubled a picture."""
    if pieces - 1 != pictures:
        raise ModelError(
            f"the model's chat template placed {pieces - 1} of {pictures} pictures; "
            "its template doesn't fit its processor."
        )
