"""What a run asks of each source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..chat.pages import Reading, read_picture
from ..errors import RequestError
from ..images.decoded import DecodedImage
from ..types import ImagePart, Message, SamplingParams

if TYPE_CHECKING:
    from ..engine.front import Front
    from ..engine.readable import Readable
    from ..models.layout_model import LayoutModel
    from ..types import Generation


def _as_given(sampling: SamplingParams, _: object) -> SamplingParams:
    """A function with a name: a question goes to other processes."""
    return sampling


@dataclass(frozen=True)
class Question:
    """`prompt` None reads pages as the model's checkpoint wants it, unless `whole`; by regions where `layout` is a
    detector, or True. `schema` is a pydantic model, a
    type such as `float`, or a JSON schema. `fill` makes a request's sampling for the engine that is asked, by
    settings. `twice` reads each source a second time, sampled, and compares.
    `documents` asks about all pages of a source together."""

    prompt: str | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    schema: Any = None
    system: str | None = None
    whole: bool = False
    layout: LayoutModel | bool = False
    draft: bool = True
    twice: bool = False
    documents: bool = False
    fill: Callable[[SamplingParams, Front], SamplingParams] = _as_given

    def __post_init__(self) -> None:
        if self.schema is not None and not isinstance(self.schema, Mapping) and _adapter(self.schema) is None:
            raise RequestError(f"{self.schema!r} is no schema; give a pydantic model, a type, or a JSON schema.")

    def json_schema(self) -> dict[str, Any] | None:
        """The schema as JSON has it."""
        if self.schema is None:
            return None
        if isinstance(self.schema, Mapping):
            return dict(self.schema)
        return dict(_adapter(self.schema).json_schema())

    def sampling_for(self, engine: Front) -> SamplingParams:
        made = self.fill(self.sampling, engine)
        return replace(made, json_schema=self.json_schema(), logprobs=made.logprobs or 0)

    def ask(self, engine: Any, pictures: Sequence[DecodedImage]) -> Reading:
        """Queue it for one source."""
        return read_picture(
            engine,
            pictures,
            self.prompt,
            self.sampling_for(engine),
            self.whole,
            self.system,
            draft=self.draft,
            layout=self.layout,
        )

    def ask_twice(self, engine: Front, pictures: Sequence[DecodedImage]) -> Reading:
        """The second reading: sampled, so that it differs where the model isn't sure."""
        other = replace(self, sampling=replace(self.sampling, temperature=0.7, top_p=0.95, seed=1), draft=False)
        return other.ask(engine, pictures)

    def ask_again(self, engine: Front, pictures: Sequence[DecodedImage], said: str, why: str) -> Readable[Generation]:
        """Once more, with what was wrong with the answer."""
        first = Message(
            "user", [*(ImagePart(picture) for picture in pictures), *([self.prompt] if self.prompt else [])]
        )
        again = Message("user", [f"That answer doesn't fit: {why}\nLook again and correct it."])
        system = [Message("system", [self.system])] if self.system else []
        talk = [*system, first, Message("assistant", [said]), again]
        return engine.submit(talk, sampling=self.sampling_for(engine), draft=self.draft)

    def value(self, text: str) -> Any:
        """What the schema makes of an answer, as JSON has it; None where nothing was asked.

        :raises ValueError: it doesn't fit; the text says why.
        """
        if self.schema is None:
            return None
        if isinstance(self.schema, Mapping):
            return json.loads(text)
        adapter = _adapter(self.schema)
        return adapter.dump_python(adapter.validate_json(text), mode="json")

    def digest(self, engine: Front) -> str:
        """What makes an answer another one: model, prompt, sampling, schema, and how pages are read."""
        said = {
            "model": identity_of(engine),
            "prompt": self.prompt,
            "system": self.system,
            "sampling": shown_sampling(self.sampling_for(engine)),
            "schema": self.json_schema(),
            "whole": self.whole,
        }
        if self.documents:
            said["documents"] = True
        if self.twice:
            said["twice"] = True
        if self.layout is not False:  # absent from the runs that were made before there was one
            said["layout"] = getattr(self.layout, "name", "")
        text = json.dumps(said, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _adapter(kind: Any) -> Any:
    """pydantic's view of a model or a type such as `float` or `list[str]`; None where it is none, or not installed."""
    try:
        from pydantic import TypeAdapter

        made = TypeAdapter(kind)
        made.json_schema()
    except Exception:  # of pydantic's, about what is no type
        return None
    return made


def identity_of(engine: Front) -> str:
    """A model by what its files are; by its name where an engine elsewhere doesn't tell."""
    return str(getattr(engine.capabilities, "identity", "") or engine.name)


def shown_sampling(sampling: SamplingParams) -> dict[str, Any]:
    """What isn't left open, without the schema."""
    made = asdict(sampling)
    made.pop("json_schema")
    return {name: value for name, value in made.items() if value not in (None, ())}
