"""Magic lines: words, flags, sources."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from IPython.core.error import UsageError

from omlx_jupyter.notebook.cells.arguments import MagicParser, is_name, positive, resolve_source
from omlx_jupyter.notebook.line import Word, split_line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("a  b", [Word("a"), Word("b")]),
        ('"a b" c', [Word("a b", True), Word("c")]),
        ("'it\\'s'", [Word("it's", True)]),
        ('df["a b"][0] x', [Word('df["a b"][0]'), Word("x")]),
        ("imgs[2 : 5]", [Word("imgs[2 : 5]")]),
        ("f(a, b) -o x;", [Word("f(a, b)"), Word("-o"), Word("x")]),
        ("[a, b]", [Word("[a, b]")]),
        ("scan(1).png", [Word("scan(1).png")]),
        ('"a" + "b"', [Word("a", True), Word("+"), Word("b", True)]),
        ("Joe's.png it's", [Word("Joe's.png"), Word("it's")]),
        ('"C:\\scans\\" x', [Word("C:\\scans\\", True), Word("x")]),
        ('--prompt="x y" -o z', [Word('--prompt="x y"'), Word("-o"), Word("z")]),
        ("f'a b' r\"c d\"", [Word("f'a b'"), Word('r"c d"')]),
        ("d['it']", [Word("d['it']")]),
    ],
)
def test_words(line: str, words: list[Word]) -> None:
    assert split_line(line) == words


@pytest.mark.parametrize("line", ['"open', "f(", "'it"])
def test_unclosed(line: str) -> None:
    with pytest.raises(UsageError, match="isn't closed"):
        split_line(line)


def test_flags() -> None:
    parser = MagicParser(prog="%x", add_help=False)
    parser.add_argument("source", nargs="*")
    parser.add_argument("--max-tokens", type=positive)
    parser.add_argument("-o", type=is_name)
    args = parser.parse_line('"--max-tokens" --max-tokens=5 -o name')
    assert (args.source, args.max_tokens, args.o) == (["--max-tokens"], 5, "name")
    args = parser.parse_line('a.png --max-tokens "7" "b c.png" -o name')
    assert (args.source, args.max_tokens, args.o) == (["a.png", "b c.png"], 7, "name")
    parser.add_argument("--prompt")
    assert parser.parse_line('--prompt="x y"').prompt == "x y"
    assert parser.parse_line("--prompt='--x' a").prompt == "--x"
    assert parser.parse_line("--prompt=x").prompt == "x"
    for line, words in {
        "--max-token 5": "did you mean --max-tokens",
        "--max-tokens zero": "not a whole number above 0",
        "--max-tokens": "expected one argument",
        "-o 3x": "no Python name",
        "-o _": "_ is IPython's own",
        "-o _12": "is IPython's own",
        "-o Out": "is IPython's own",
        "--wholly-other": "known flags",
        "-h": "examples",
    }.items():
        with pytest.raises(UsageError, match=words):
            parser.parse_line(line)


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "img.png").write_bytes(b"x")
    (tmp_path / "scan1.png").write_bytes(b"x")
    names = {"img": object(), "imgs": [1, 2, 3], "data": {"a b": 7}, "figure": None}
    assert resolve_source("img", names) is names["img"]
    assert resolve_source("imgs[1:]", names) == [2, 3]
    assert resolve_source('data["a b"]', names) == 7
    assert resolve_source("[i for i in imgs]", names) == [1, 2, 3]
    assert resolve_source("{img}", names) is names["img"]
    assert resolve_source("sorted(imgs)", names) == sorted(names["imgs"])
    assert resolve_source("img.png", {}) == "img.png"
    assert resolve_source("scan[0-9].png", names) == "scan[0-9].png"
    assert resolve_source("https://example.org/a.png", names).startswith("https")
    for word, message in {
        "imgs[9]": "IndexError",
        "imgz": "did you mean img",
        "zzzzzz": "define it or give a path",
    }.items():
        with pytest.raises(UsageError, match=message):
            resolve_source(word, names)


@pytest.mark.parametrize("word", ["class", "1a", "a b", "None"])
def test_a_result_needs_a_name_that_python_can_use(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no Python name"):
        is_name(word)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.png -o x   # the first", ["a.png", "-o", "x"]),
        ("a.png #", ["a.png"]),
        ("a.png # it's 5 o'clock (", ["a.png"]),
        ("a.png; # quiet", ["a.png"]),
        ("#1.png a#.png", ["#1.png", "a#.png"]),
        ('--prompt "# no comment" a.png', ["--prompt", "# no comment", "a.png"]),
        ("files[1 # 2] b", ["files[1 # 2]", "b"]),
        ("# all of it", []),
    ],
)
def test_a_comment_behind_a_magic_is_one(line: str, words: list[str]) -> None:
    assert [word.text for word in split_line(line)] == words
