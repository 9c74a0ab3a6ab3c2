"""How good a run's answers are, against what its sources really say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunError
from .record import Key, Record
from .run import Run, every_record
from .tables_alike import tables_alike

_BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
_NEAR = 80.0  # similarity, of 100, from which two lines are the same line
WORST = 10
# Columns of a run's own table that say nothing of what a source holds
_ABOUT = {"source", "page", "error", "finish_reason", "model", "seconds", "prompt_tokens", "completion_tokens", "kind"}


@dataclass(frozen=True)
class Compared:
    """One answer beside its truth. `cer` and `wer` are edits a character and a word of the truth, None for values;
    `tables` how alike its tables are (TEDS); `fields` says of each field whether it is right."""

    record: Record
    truth: Any
    cer: float | None = None
    wer: float | None = None
    order: float | None = None
    tables: float | None = None
    fields: Mapping[str, bool] = field(default_factory=dict)

    @property
    def wrong(self) -> float:
        """0 where all is right; to sort by."""
        if self.fields:
            return sum(not right for right in self.fields.values()) / len(self.fields)
        return self.cer if self.cer is not None else 0.0


@dataclass(frozen=True)
class Evaluation:
    """`cer` and `wer` over all texts together (edits over the truth's length), `order` the share of neighbouring lines
    in the right order, `tables` how alike tables are (TEDS, 0 to 1), `accuracy` of fields. None where there is nothing
    of the kind."""

    compared: Sequence[Compared]
    missing: Sequence[str]  # sources with a truth and no answer
    kind: Callable[[Record], str]

    @property
    def cer(self) -> float | None:
        return _over_all(self.compared, "cer", lambda truth: len(truth))

    @property
    def wer(self) -> float | None:
        return _over_all(self.compared, "wer", lambda truth: len(truth.split()))

    @property
    def order(self) -> float | None:
        held = [c.order for c in self.compared if c.order is not None]
        return sum(held) / len(held) if held else None

    @property
    def tables(self) -> float | None:
        held = [c.tables for c in self.compared if c.tables is not None]
        return sum(held) / len(held) if held else None

    @property
    def accuracy(self) -> float | None:
        held = [right for c in self.compared for right in c.fields.values()]
        return sum(held) / len(held) if held else None

    @property
    def fields(self) -> dict[str, float]:
        """Each field's accuracy."""
        held: dict[str, list[bool]] = {}
        for compared in self.compared:
            for name, right in compared.fields.items():
                held.setdefault(name, []).append(right)
        return {name: sum(rights) / len(rights) for name, rights in held.items()}

    @property
    def by_kind(self) -> dict[str, Evaluation]:
        """The same for each kind of source (its file's ending, unless told otherwise)."""
        held: dict[str, list[Compared]] = {}
        for compared in self.compared:
            held.setdefault(self.kind(compared.record), []).append(compared)
        return {name: Evaluation(some, (), self.kind) for name, some in sorted(held.items())}

    @property
    def worst(self) -> list[Compared]:
        """The answers furthest from the truth."""
        wrong = [compared for compared in self.compared if compared.wrong > 0]
        return sorted(wrong, key=lambda compared: -compared.wrong)[:WORST]

    @property
    def calibration(self) -> list[tuple[float, float, float, int]]:
        """(from, to, accuracy, how many) of fields and texts by the confidence that the model had in them."""
        held = [pair for compared in self.compared for pair in _sure_and_right(compared)]
        made = []
        for low, high in itertools.pairwise(_BINS):
            rights = [right for sure, right in held if low <= sure < high or (high == 1.0 and sure == 1.0)]
            if rights:
                made.append((low, high, sum(rights) / len(rights), len(rights)))
        return made

    def lines(self) -> list[tuple[str, str]]:
        """Name and figure, for people."""
        made = [("answers compared", f"{len(self.compared)}")]
        if self.missing:
            shown = ", ".join(self.missing[:3]) + (", …" if len(self.missing) > 3 else "")
            made.append(("without an answer", f"{len(self.missing)} ({shown})"))
        named = (("character errors", self.cer), ("word errors", self.wer), ("lines in order", self.order),
                 ("tables alike", self.tables),
                 ("fields right", self.accuracy))  # fmt: skip
        made += [(name, f"{100 * value:.2f} %") for name, value in named if value is not None]
        made += [(f"  {name}", f"{100 * value:.1f} %") for name, value in self.fields.items()]
        return made

    def __repr__(self) -> str:
        return "\n".join(f"{name:<24}{figure:>10}" for name, figure in self.lines())


def evaluate(
    run: Run | str | Path,
    truth: object = None,
    *,
    kind: Callable[[Record], str] = lambda record: Path(record.source).suffix.lower().lstrip(".") or "other",
) -> Evaluation:
    """Compare a run's answers with `truth`: a mapping of sources (paths, or names of files) to texts or values, a data
    frame with a column `source` and others, or None for the run's own corrections. Of a table's records truth is found
    by (source, column) or by a value's field.

    :raises RunError: no truth, or a package that is missing.
    """
    if not isinstance(run, Run | str | Path):
        raise RunError(f"evaluate takes a run or its file, not a {type(run).__name__}.")
    path = run.path if isinstance(run, Run) else Path(run).expanduser()
    answers: dict[Key, Record] = {}
    corrections: dict[Key, Record] = {}
    for record in every_record(path):
        (corrections if record.kind == "correction" else answers)[record.key] = record
    wanted = _own(corrections) if truth is None else _given(truth)
    wanted = {name: said for name, said in wanted.items() if not _unknown(said)}
    if not wanted:
        raise RunError("there is nothing to compare with; give truth, or correct some of the run's answers.")
    compared, met = [], set()
    for record in answers.values():
        found = next((name for name in _names(record) if name in wanted), None)
        if found is not None and not record.error:
            met.add(found)
            compared.append(_compare(record, wanted[found]))
    return Evaluation(compared, [str(name) for name in wanted if name not in met], kind)


def _unknown(said: object) -> bool:
    """Whether nobody knows it: None, or a column's missing value."""
    return said is None or (isinstance(said, float) and said != said) or type(said).__name__ == "NAType"


def _own(corrections: Mapping[Key, Record]) -> dict[Any, Any]:
    return {key: record.text if record.value is None else record.value for key, record in corrections.items()}


def _given(truth: object) -> dict[Any, Any]:
    if hasattr(truth, "to_dict") and hasattr(truth, "columns"):
        if "source" not in truth.columns:
            raise RunError("a data frame of truth has a column named source.")
        return {_row_name(row): _row(row) for row in truth.to_dict("records")}
    if not isinstance(truth, Mapping):
        raise RunError(f"truth is a {type(truth).__name__}; give a dict of sources, or a data frame.")
    return dict(truth)


def _row_name(row: Mapping[str, Any]) -> str:
    page: Any = row.get("page")
    return str(row["source"]) if _unknown(page) else f"{row['source']}[{int(page)}]"


def _row(row: Mapping[str, object]) -> Any:
    rest = {name: value for name, value in row.items() if name not in _ABOUT}
    if "text" in rest and (len(rest) == 1 or all(_unknown(value) for name, value in rest.items() if name != "text")):
        return rest["text"]
    rest.pop("text", None)
    return {name: value for name, value in rest.items() if not _unknown(value)}


def _names(record: Record) -> Iterable[Any]:
    """What a truth may call a record by."""
    short = Path(record.source).name
    yield record.key
    if record.column:
        yield from ((record.source, record.column), (short, record.column))
        return
    if record.page is not None:
        yield from (record.name, f"{short}[{record.page}]")
    yield from (record.source, short)


def _compare(record: Record, truth: object) -> Compared:
    if isinstance(truth, Mapping):
        said = record.value if isinstance(record.value, Mapping) else {}
        return Compared(record, truth, fields={name: _same(said.get(name), value) for name, value in truth.items()})
    if record.value is not None or not isinstance(truth, str):
        return Compared(record, truth, fields={record.column or "value": _same(record.value, truth)})
    try:
        import jiwer
    except ImportError:
        raise RunError("comparing texts needs jiwer: pip install 'omlx_jupyter[runs]'.") from None
    if not truth.strip():
        return Compared(record, truth, float(bool(record.text.strip())), float(bool(record.text.strip())))
    text = record.text
    order, tables = _order(text, truth), tables_alike(text, truth)
    return Compared(record, truth, jiwer.cer(truth, text), jiwer.wer(truth, text), order, tables)


def _same(said: object, truth: object) -> bool:
    """Equal as people take it: numbers by value, texts without regard to case and blanks."""
    if isinstance(said, bool) or isinstance(truth, bool):
        return said is truth
    if isinstance(said, int | float) and isinstance(truth, int | float):
        return abs(said - truth) <= 1e-9 * max(1.0, abs(truth))
    if isinstance(said, str) and isinstance(truth, str):
        return " ".join(said.split()).casefold() == " ".join(truth.split()).casefold()
    return bool(said == truth)


def _order(said: str, truth: str) -> float | None:
    """The share of the truth's neighbouring lines that stand in that order in what was said, of those found there."""
    from rapidfuzz import fuzz, process

    mine = [line for line in said.splitlines() if line.strip()]
    wanted = [line for line in truth.splitlines() if line.strip()]
    if len(wanted) < 2 or not mine:
        return None
    found = [process.extractOne(line, mine, scorer=fuzz.ratio, score_cutoff=_NEAR) for line in wanted]
    places = [match[2] for match in found if match is not None]
    pairs = list(itertools.pairwise(places))
    return sum(first <= second for first, second in pairs) / len(pairs) if pairs else None


def _over_all(compared: Sequence[Compared], rate: str, size: Callable[[str], int]) -> float | None:
    held = [(getattr(c, rate), size(c.truth)) for c in compared if getattr(c, rate) is not None]
    whole = sum(length for _, length in held)
    return sum(value * length for value, length in held) / whole if whole else (None if not held else held[0][0])


def _sure_and_right(compared: Compared) -> Iterable[tuple[float, bool]]:
    record = compared.record
    for name, right in compared.fields.items():
        sure = record.sure.get(name, record.confidence if len(compared.fields) == 1 else None)
        if sure is not None:
            yield sure, right
    if compared.cer is not None and record.confidence is not None:
        yield record.confidence, compared.cer == 0
