"""Answers of several models to the same: side by side, what differs, and a table of many."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import RequestError
from ..plain import name as one_line
from .html import Html, html
from .markdown import safe_html, safe_line
from .result import Failure, Result, answer_bundle, display_bundle, was_streamed
from .word_diff import WordDiff, word_diff

if TYPE_CHECKING:
    import pandas

    from ..shell import Shell

_MISSING = "—"


class Comparison:
    """`.results` by model, `.df` (a row with a group of columns for each), `.agree`, `.diff` (the words that differ, as
    text), `.diffs` (from the first answer to each other one), `.fields` (JSON fields that differ).

    A model that could not answer has a `Failure` among the results.
    """

    def __init__(
        self, results: Mapping[str, Result | Failure], as_json: bool = False, row: Mapping[str, Any] | None = None
    ) -> None:
        """`row` are columns of the table that stand before the models'."""
        self.results, self.as_json = dict(results), as_json
        self.row: dict[str, Any] = dict(row or {})
        self._shown_in: Any = None

    @property
    def answers(self) -> dict[str, Result]:
        """Without those that failed."""
        return {name: made for name, made in self.results.items() if isinstance(made, Result)}

    @cached_property
    def values(self) -> dict[str, Any]:
        """With `--json`: the parsed answers of those that are whole."""
        made = {}
        for name, answer in self.answers.items() if self.as_json else ():
            try:
                made[name] = answer.json()
            except ValueError:
                continue
        return made

    @property
    def agree(self) -> bool | None:
        """Whether the answers are the same: their JSON, else their words. None: fewer than two came to their end."""
        whole = [name for name, made in self.answers.items() if made.finish_reason in ("stop", "length")]
        if len(whole) < 2:
            return None
        if self.as_json and all(name in self.values for name in whole):
            said: list[Any] = [self.values[name] for name in whole]
        else:
            said = [self.answers[name].text.split() for name in whole]
        return all(one == said[0] for one in said)

    @cached_property
    def diffs(self) -> list[WordDiff]:
        """From the first answer to each of the others."""
        said = [(name, made.text) for name, made in self.answers.items()]
        return [word_diff(said[0][0], name, said[0][1], text) for name, text in said[1:]]

    @property
    def diff(self) -> str:
        """The words that differ, as `[-out-]` and `{+in+}`; of three models and more under their names."""
        if len(self.diffs) == 1:
            return str(self.diffs[0])
        return "\n\n".join(f"{_between(diff)}:\n{diff}" for diff in self.diffs)

    @cached_property
    def fields(self) -> dict[str, dict[str, Any]]:
        """JSON fields that differ: `{"items[0].price": {"a": 3, "b": 4}}`; one that a model lacks isn't among its."""
        flat = {name: dict(_fields(value)) for name, value in self.values.items()}
        paths = dict.fromkeys(path for held in flat.values() for path in held)
        found = {path: {name: held[path] for name, held in flat.items() if path in held} for path in paths}
        return {
            path: by
            for path, by in found.items()
            if len(by) < len(flat) or any(value != next(iter(by.values())) for value in by.values())
        }

    @property
    def df(self) -> pandas.DataFrame:
        """One row; see `frame`."""
        return frame([self])

    def verdict(self) -> str:
        """In one line."""
        agree = self.agree
        if agree is None:
            return "fewer than two whole answers to compare"
        what = "JSON" if self.as_json and len(self.values) == len(self.answers) else "words"
        return f"the answers have the same {what}" if agree else f"the answers differ in their {what}"

    def bundle(self) -> dict[str, str]:
        """What is saved: columns and what differs as HTML, one below the other in Markdown and plain text."""
        return {"text/html": self._html(), "text/markdown": self._markdown(), "text/plain": self._plain()}

    def _shown_diffs(self) -> list[WordDiff]:
        return [diff for diff in self.diffs if any(piece.kind != "same" for piece in diff.pieces)]

    def _html(self) -> Html:
        heads = _joined(html('<th style="text-align: left">{}</th>', name) for name in self.results)
        bodies = _joined(_cell(_body(made)) for made in self.results.values())
        feet = _joined(_cell(html("<small>{}</small>", _below(made))) for made in self.results.values())
        made = html(
            '<table class="omlx-compare" style="table-layout: fixed; width: 100%"><thead><tr>{}</tr></thead>'
            "<tbody><tr>{}</tr><tr>{}</tr></tbody></table><p><small>{}</small></p>",
            heads,
            bodies,
            feet,
            self.verdict(),
        )
        shown = _joined(
            html(
                "<details open><summary>{}</summary>"
                '<pre class="omlx-diff" style="white-space: pre-wrap">{}</pre></details>',
                _between(diff),
                diff.html(),
            )
            for diff in self._shown_diffs()
        )
        return Html(made + self._fields_html() + shown)

    def _fields_html(self) -> Html:
        if not self.fields:
            return Html()
        heads = _joined(html("<th>{}</th>", name) for name in ("field", *self.values))
        rows = _joined(
            html("<tr>{}</tr>", _joined(_cell(cell) for cell in (path, *cells))) for path, cells in self._field_rows()
        )
        return html('<table class="omlx-fields"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', heads, rows)

    def _field_rows(self) -> Iterator[tuple[str, list[str]]]:
        for path, by in self.fields.items():
            yield path, [json.dumps(by[name], ensure_ascii=False) if name in by else _MISSING for name in self.values]

    def _markdown(self) -> str:
        parts = [f"**{safe_line(name)}**\n\n{_part(made)['text/markdown']}" for name, made in self.results.items()]
        parts.append(f"*{safe_line(self.verdict())}*")
        if self.fields:
            rows = [["field", *self.values], ["---"] * (1 + len(self.values))]
            lines = [f"| {' | '.join(safe_line(cell) if cell != '---' else cell for cell in row)} |" for row in rows]
            lines += [f"| {' | '.join(map(safe_line, (path, *cells)))} |" for path, cells in self._field_rows()]
            parts.append("\n".join(lines))
        parts += [f"{safe_line(_between(diff))}: {diff.markdown()}" for diff in self._shown_diffs()]
        return "\n\n".join(parts)

    def _plain(self) -> str:
        parts = [f"--- {one_line(name)}\n{_part(made)['text/plain']}" for name, made in self.results.items()]
        parts.append(f"[{self.verdict()}]")
        for path, cells in self._field_rows():
            parts.append("\n".join([path, *(f"  {n}: {cell}" for n, cell in zip(self.values, cells, strict=True))]))
        parts += [f"{_between(diff)}:\n{diff}" for diff in self._shown_diffs()]
        return "\n\n".join(parts)

    def shown(self, shell: Shell) -> None:
        self._shown_in = (id(shell), shell.execution_count)

    def unshown(self) -> None:
        """As a result's."""
        self._shown_in = None

    def _ipython_display_(self) -> None:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if not was_streamed(shell, self._shown_in):
            display_bundle(shell, self.bundle())

    def __repr__(self) -> str:
        return one_line(f"<Comparison of {', '.join(self.results)}: {self.verdict()}>")


def frame(rows: Sequence[Comparison]) -> pandas.DataFrame:
    """A pandas DataFrame, one row a comparison. Columns have two levels: what was asked under ("prompt", ""), each
    model's `text`, `tokens`, `tokens_per_s` (and `error`, where one failed) under its name, and ("agree", ""):
    True, False, or missing where fewer than two models answered.

    :raises RequestError: pandas isn't installed.
    """
    try:
        import pandas
    except ImportError:
        raise RequestError("tables need pandas: pip install pandas.") from None
    models = list(dict.fromkeys(name for one in rows for name in one.results))
    failed = {n for one in rows for n, made in one.results.items() if isinstance(made, Failure)}
    made: dict[tuple[str, str], Any] = {}
    for key in dict.fromkeys(key for one in rows for key in one.row):
        made[key, ""] = [one.row.get(key) for one in rows]
    for name in models:
        answers = [one.answers.get(name) for one in rows]
        made[name, "text"] = [a.text if a else None for a in answers]
        tokens = [a.usage.completion_tokens if a else None for a in answers]
        made[name, "tokens"] = pandas.array(tokens, dtype="Int64")
        made[name, "tokens_per_s"] = [a.usage.decode_tokens_per_s if a else float("nan") for a in answers]
        if name in failed:
            errors = [one.results.get(name) for one in rows]
            made[name, "error"] = [str(e.error) if isinstance(e, Failure) else None for e in errors]
    made["agree", ""] = pandas.array([one.agree for one in rows], dtype="boolean")
    table = pandas.DataFrame(made)
    table.columns = pandas.MultiIndex.from_tuples(list(made))
    return table


def _cell(held: object) -> Html:
    return html('<td style="text-align: left; vertical-align: top; overflow-wrap: anywhere">{}</td>', held)


def _joined(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def _between(diff: WordDiff) -> str:
    return f"from {diff.first} to {diff.second}"


def _body(made: Result | Failure) -> Html:
    if isinstance(made, Failure):
        return html("<em>failed: {}</em>", made.error)
    thought = made.thought.html() if made.thought_bundle() else ""
    return html("{}{}", thought, safe_html(made.text))


def _below(made: Result | Failure) -> str:
    return "" if isinstance(made, Failure) else " · ".join([*made.notes(), made.figures()])


def _part(made: Result | Failure) -> dict[str, str]:
    """Its text and its figures."""
    if isinstance(made, Failure):
        return answer_bundle(f"failed: {made.error}", "")
    thought, below = made.thought_bundle(), made.bundle()
    return {kind: "\n\n".join([*([thought[kind]] if thought else []), said]) for kind, said in below.items()}


def _fields(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of each leaf; an empty dict or list is one."""
    if isinstance(value, Mapping) and value:
        for key, held in value.items():
            yield from _fields(held, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for index, held in enumerate(value):
            yield from _fields(held, f"{path}[{index}]")
    else:
        yield path, value
