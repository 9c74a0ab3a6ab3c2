"""What the words of a line and the braces of a cell mean, value by value."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import UsageError

from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.notebook.cells import options
from omlx_jupyter.notebook.cells.arguments import (
    MagicParser,
    drafting_from,
    is_name,
    not_negative,
    positive,
    resolve_hint,
    resolve_source,
)
from omlx_jupyter.notebook.cells.interpolate import interpolate
from omlx_jupyter.notebook.line import Word, split_line
from omlx_jupyter.notebook.settings.config import settings

from ..conftest import draw_text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  a  ", [Word("a")]),
        ("a;", [Word("a")]),
        ("a;;", [Word("a;")]),
        ("''", [Word("", True)]),
        ('""x', [Word('""x')]),
        ("'a'b'c'", [Word("'a'b'c'")]),
        ("x'a c'", [Word("x'a"), Word("c'")]),
        ("(a b) c", [Word("(a b)"), Word("c")]),
        ("(a (b c) d) e", [Word("(a (b c) d)"), Word("e")]),
        ("a) b", [Word("a)"), Word("b")]),
        ("a)) (b c)", [Word("a))"), Word("(b c)")]),
        ("{a b} [c d]", [Word("{a b}"), Word("[c d]")]),
        ("f(x'a b') c", [Word("f(x'a b')"), Word("c")]),
        ("'a' 'b c' d", [Word("a", True), Word("b c", True), Word("d")]),
        ("x 'a' y", [Word("x"), Word("a", True), Word("y")]),
        ("rb'a b' BR'c d' Fr'e f'", [Word("rb'a b'"), Word("BR'c d'"), Word("Fr'e f'")]),
        ("u'a b' b'c d'", [Word("u'a b'"), Word("b'c d'")]),
        ('"it\'s so"', [Word("it's so", True)]),
        ('"a \\"b\\" c" d', [Word('a "b" c', True), Word("d")]),
        ("'a\\' b", [Word("a\\", True), Word("b")]),
        ("'", None),
        ("[a", None),
        ("(a]", [Word("(a]")]),
        ("a #b", [Word("a"), Word("#b")]),
        ("a#", [Word("a#")]),
        ("a # b", [Word("a")]),
        ("a #\tb", [Word("a")]),
        ("'#' #", [Word("#", True)]),
        ("f(# x) y", [Word("f(# x)"), Word("y")]),
        ("a\tb\nc", [Word("a"), Word("b"), Word("c")]),
    ],
)
def test_words(line: str, words: list[Word] | None) -> None:
    if words is not None:
        assert split_line(line) == words
        return
    with pytest.raises(UsageError, match=r"isn't closed"):
        split_line(line)


def test_what_is_not_closed_is_shown_but_not_at_any_length() -> None:
    with pytest.raises(UsageError) as caught:
        split_line("'" + "a" * 300)
    assert str(caught.value) == f"a quote (') isn't closed in: '{'a' * 199}"
    with pytest.raises(UsageError) as caught:
        split_line(" (" + "a" * 300)
    assert str(caught.value) == f"a bracket isn't closed; put a name that has one in quotes: ({'a' * 199}"
    word = Word("a")
    assert not word.quoted
    with pytest.raises(AttributeError):
        word.text = "b"  # type: ignore[misc]


@pytest.fixture
def parser() -> MagicParser:
    return options.parser("%x", (*options.VLM, options.Option("--n", "", "N", not_negative)), sources=True)


def test_a_line_of_flags(parser: MagicParser) -> None:
    made = parser.parse_line('a "-o" --stop "--x" --stop=y -o out --max-tokens \'3\' --n 0 --think b')
    assert made.source == ["a", "-o", "b"]
    assert (made.stop, made.out, made.max_tokens, made.n, made.think) == (["--x", "y"], "out", 3, 0, True)
    assert (made.image, made.json, made.system, made.seed, made.temperature) == ([], None, None, None, None)
    assert [type(s).__name__ for s in made.source] == ["str", "_Quoted", "str"]
    assert parser.parse_line("a --no-think").think is False
    assert parser.parse_line("a --system='b  c' --seed 7 --temperature 0.5").system == "b  c"
    assert (parser.parse_line("a").think, parser.parse_line("a").background) == (None, False)
    assert parser.parse_line("a -i b c -i d").image == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a --think --no-think", "%x: argument --no-think: not allowed with argument --think. Try %x? for examples."),
        ("a --max-tokens 0", "%x: argument --max-tokens: 0 is not a whole number above 0. Try %x? for examples."),
        ("a --n -1", "%x: argument --n: -1 is not a whole number from 0. Try %x? for examples."),
        ("a --n '-1'", "%x: argument --n: -1 is not a whole number from 0. Try %x? for examples."),
        ("a --seed x", "%x: argument --seed: invalid int value: 'x'. Try %x? for examples."),
        ("", "%x: the following arguments are required: source. Try %x? for examples."),
        ("a --tabel", "%x has no flag --tabel; did you mean --table?"),
        ("a --tabel=3", "%x has no flag --tabel=3; did you mean --table?"),
    ],
)
def test_a_line_that_is_wrong_says_how_in_one(parser: MagicParser, line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parser.parse_line(line)
    assert str(caught.value) == said


def test_a_wholly_other_flag_and_help(parser: MagicParser) -> None:
    with pytest.raises(
        UsageError, match=r"has no flag --wholly-other; known flags: --all-frames, --background, --begin, .*, -o\."
    ):
        parser.parse_line("a --wholly-other")
    for flag in ("-h", "--help"):
        with pytest.raises(UsageError, match=r"(?s)usage: %x .*  \(examples: %x\?\)"):
            parser.parse_line(f"a {flag}")
    with pytest.raises(UsageError, match=r"bye"):
        parser.exit(0, "bye")


def test_numbers_and_names() -> None:
    assert (positive("1"), not_negative("0"), positive(" 12 ")) == (1, 0, 12)
    for kind, text in ((positive, "0"), (positive, "-1"), (not_negative, "-1"), (positive, "1.5"), (not_negative, "x")):
        with pytest.raises(argparse.ArgumentTypeError, match=f"^{text} is not a whole number (above|from) "):
            kind(text)
    for text in ("a", "_a", "i1", "__x__", "_x1", "Inn"):
        assert is_name(text) == text
    for text in ("In", "Out", "_", "___", "_i", "_iii", "_1", "_i12", "_oh", "_ih", "_dh"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"is IPython's own"):
            is_name(text)


def test_what_a_source_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.png", "{b}", "img", "run.txt", "in/deep/z.tif"):
        (tmp_path / name).write_bytes(b"x")
    assert resolve_source("**/z.tif", {}) == "**/z.tif"
    with pytest.raises(UsageError, match="there is no name or file z"):
        resolve_source("z", {})
    names: dict[str, Any] = {"a": SimpleNamespace(png=5), "b": 1, "run": print, "n": None, "bad": {}, "_hidden": 1}
    assert resolve_source("a.png", names) == 5  # a name is before a file
    assert resolve_source("a.png", {}) == "a.png"
    assert resolve_source("{b}", names) == "{b}"  # a file of that name
    assert resolve_source("{ b }", names) == 1
    assert resolve_source("run.txt", names) == "run.txt"  # an attribute that isn't there
    assert resolve_source("run", names) is print
    (tmp_path / "run").write_bytes(b"x")
    assert resolve_source("run", names) == "run"  # no picture is a function
    assert resolve_source("n", names) is None
    assert resolve_source("[b, len([1])]", names) == [1, 1]
    assert resolve_source("b + missing", names) == "b + missing"
    assert resolve_source("data:image/png;base64,xx", names) == "data:image/png;base64,xx"
    assert resolve_source("file://x", {"file": 1}) == "file://x"
    assert resolve_source("no such thing", names) == "no such thing"
    assert resolve_source("*.png", names) == "*.png"
    with pytest.raises(UsageError, match=r"^bad\['x'\] fails in this notebook \(KeyError: 'x'\)\.$"):
        resolve_source("bad['x']", names)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("receit", "there is no name or file receit; did you mean receipt?"),
        ("hidde", "there is no name or file hidde; define it or give a path, a glob or a URL."),
        ("prin", "there is no name or file prin; define it or give a path, a glob or a URL."),
        ("scan_png", "there is no name or file scan_png; did you mean scan.png?"),
        ("fi", "there is no name or file fi; define it or give a path, a glob or a URL."),
    ],
)
def test_a_name_that_is_nothing(word: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scan.png", "fix"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "receiu").mkdir()
    with pytest.raises(UsageError) as caught:
        resolve_source(word, {"receipt": 1, "_hidden": 1, "print": print})
    assert str(caught.value) == said


def test_what_a_hint_means() -> None:
    names = {"text": "said", "n": 3}
    quoted = options.parser("%x", options.OCR, sources=True).parse_line("a --hint 'text'").hint
    assert resolve_hint(quoted, names) == "text"
    assert resolve_hint("text", names) == "said"
    assert resolve_hint("[1, 2]", names) == [1, 2]
    assert resolve_hint("42", names) == "42"
    assert resolve_hint("two words", names) == "two words"
    assert resolve_hint("[t for t in text][0]", names) == "s"
    with pytest.raises(UsageError, match=r"^--hint: there is no name b; put text in quotes"):
        resolve_hint("z + b", names)
    with pytest.raises(UsageError, match=r"^--hint: n\.x fails in this notebook \(AttributeError: "):
        resolve_hint("n.x", names)


def test_drafts_are_made_unless_somebody_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def flags(hint: str | None = None, no_draft: bool = False) -> Any:
        return SimpleNamespace(hint=hint, no_draft=no_draft)

    assert drafting_from({}, flags()) == (True, "")
    assert drafting_from({"t": "x"}, flags("t", True)) == (False, "x")
    monkeypatch.setattr(settings(), "drafts", False)
    assert drafting_from({}, flags()) == (False, "")


def test_an_option_as_it_is_shown() -> None:
    some = (options.Option("-o, --out", "binds " * 20, "NAME"), options.Option("--quick", "at once"))
    assert [option.shown for option in some] == ["-o, --out NAME", "--quick"]
    assert options.usage("%x", some, True) == "%x SOURCE... [-o NAME] [--quick]"
    assert options.usage("%x", some, False) == "%x [-o NAME] [--quick]"
    lines = options.described(some).splitlines()
    assert lines[0] == "-o, --out NAME         " + " ".join(["binds"] * 12)
    assert lines[1] == " " * 23 + " ".join(["binds"] * 8)
    assert lines[2] == "--quick                at once"
    long = options.usage("%long", some * 12, False).splitlines()
    assert max(map(len, long)) <= 96
    assert options.usage("%x", (options.Option("--" + "a" * 89, ""),), False) == f"%x [--{'a' * 89}]"
    assert "\n" in options.usage("%x", (options.Option("--" + "a" * 90, ""),), False)
    with pytest.raises(AttributeError):
        some[0].said = ""  # type: ignore[misc]
    assert long[1].startswith(" " * 6 + "[")

    @options.documented("%x", some[1:], sources=True)
    def magic() -> None:
        """Reads.

        USAGE

          OPTIONS
        """

    assert magic.__doc__ is not None
    assert [line.strip() for line in magic.__doc__.splitlines()] == [
        *("Reads.", "", "%x SOURCE... [--quick]", "", "--quick                at once", ""),
    ]


def test_the_page_of_all_options_is_as_declared() -> None:
    page = options.page()
    assert page == (Path(__file__).parents[2] / "docs" / "magics.md").read_text(encoding="utf-8")
    assert "## %ocr\n\n```\n%ocr SOURCE... [--prompt TEXT]" in page
    assert "## %%vlm\n\n```\n%%vlm [-i SOURCE ...] [-o NAME]" in page


def test_a_file_by_its_name_and_where_a_mistake_is(tmp_path: Path) -> None:
    draw_text("Hello").save(tmp_path / "a.png")
    parts = interpolate(f"See {{img({str(tmp_path / 'a.png')!r})}}", {"img": 3}, Limits())
    assert [type(part).__name__ for part in parts] == ["str", "DecodedImage"]
    for text, line in (("{1/0}", 2), ("a\n{1/0}", 3), ("a\n\n\nb {1/0} c", 5)):
        with pytest.raises(UsageError, match=f"line {line}") as caught:
            interpolate(text, {}, Limits())
        assert "ZeroDivisionError: division by zero" in str(caught.value)
    assert str(caught.value).splitlines()[1:] == ["    b {1/0} c", "       ^"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("{n}", ["3"]),
        ("{n}{n} a{n}", ["33 a3"]),
        ("{{n}}", ["{n}"]),
        ("}}{{", ["}{"]),
        ("{s!r} {s!s} {s!a}", ["'é' é '\\xe9'"]),
        ("{s!r:>5}|{n:03d}|{n!s:<2}|", ["  'é'|003|3 |"]),
        ("{'a:b'} {'!'}", ["a:b !"]),
        ("{d['k']} {d[\"k\"]}", ["1 1"]),
        ("{'{'} {'\\'}'} {\"}\"}", ["{ '} }"]),
        ("{(lambda x: x)(n)}", ["3"]),
        ("{ {1: 2}[1] }", ["2"]),
        ("{n if n != 3 else 'three'}", ["three"]),
        ("{n:>{2}}", None),
        ("{[n, n]}", ["[3, 3]"]),
        ("{[]} {None}", ["[] None"]),
        ("{n:!>3}", ["!!3"]),
    ],
)
def test_braces(text: str, parts: list[str] | None) -> None:
    names = {"n": 3, "s": "é", "d": {"k": 1}}
    if parts is not None:
        assert interpolate(text, names, Limits()) == parts
        return
    with pytest.raises(UsageError):
        interpolate(text, names, Limits())


@pytest.mark.parametrize("text", ["a {", "{n", "{'}", "{(}", "}", "a } {n}", "{}", "{n!x}", "{n!}", "{a b:c d}"])
def test_braces_that_are_wrong(text: str) -> None:
    with pytest.raises(UsageError):
        interpolate(text, {"n": 1}, Limits())
