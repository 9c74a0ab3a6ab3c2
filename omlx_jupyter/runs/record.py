"""One source's answer, as a run keeps it: a JSON object on a line."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

# A source, the page of it (counted from 1), and the question's name where there are several
Key = tuple[str, int | None, str]


@dataclass(frozen=True)
class Record:
    """`content` is a digest of what was read; `stamp` a file's time (ns) and size then. `asked` is a digest of model,
    prompt, sampling and schema. `text` is the answer, `value` what a schema makes of it; `error` says why there is
    none. `confidence` is the probability that the model itself gave the least sure token of the answer, before any
    grammar; `sure` the same by the value's fields; `places` has the corners, in the picture's pixels, of what the
    answer says it found and where. Where each source was read twice, `agreement` is the share of the value's fields
    that both readings have alike, or how alike the texts are, 0 to 1, and `other` is what the second said. `seconds`
    from opening the source to its answer's end; `at` is the Unix time of that."""

    source: str
    page: int | None = None
    column: str = ""  # the question's name, of several to one source
    content: str = ""
    stamp: tuple[int, int] | None = None
    asked: str = ""
    model: str = ""
    prompt: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    value: Any = None
    lines: Sequence[Mapping[str, Any]] = ()
    agreement: float | None = None
    other: Any = None
    finish_reason: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    confidence: float | None = None
    sure: Mapping[str, float] = field(default_factory=dict)
    places: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    seconds: float = 0.0
    at: float = field(default_factory=time.time)
    kind: str = "answer"  # or "correction": by a person, over what the model said

    @property
    def key(self) -> Key:
        return self.source, self.page, self.column

    @property
    def name(self) -> str:
        made = self.source if self.page is None else f"{self.source}[{self.page}]"
        return f"{made} · {self.column}" if self.column else made

    def line(self) -> bytes:
        """The record as it stands in a file, its line feed included."""
        held = ((name, getattr(self, name)) for name in _NAMES)
        made = {name: value for name, value in held if value not in (None, "", (), [], {})}
        return json.dumps(made, ensure_ascii=False, separators=(",", ":"), default=str).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes | str) -> Record:
        """:raises ValueError: it is no record."""
        held = json.loads(line)
        if not isinstance(held, dict) or not isinstance(held.get("source"), str):
            raise ValueError("a record is a JSON object with a source")
        known = {name: held[name] for name in _NAMES if name in held}
        if stamp := known.get("stamp"):
            known["stamp"] = (int(stamp[0]), int(stamp[1]))
        return cls(**known)


_NAMES = tuple(f.name for f in fields(Record))


@dataclass(frozen=True)
class Known:
    """What is kept in memory of a record: enough to see whether its source has to be read again."""

    asked: str
    content: str
    stamp: tuple[int, int] | None
    failed: bool
    corrected: bool = False

    @classmethod
    def of(cls, record: Record) -> Known:
        corrected = record.kind == "correction"
        return cls(record.asked, record.content, record.stamp, bool(record.error), corrected)
