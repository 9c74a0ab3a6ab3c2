"""Training and held-out text, made from prose and code that every Python installation has."""

from __future__ import annotations

import random
import re
import string
import sysconfig
import zlib
from functools import cache
from pathlib import Path

from .config import ACCENTED, ASCII, CHAR_CLASS, SIGNS

_WORD = re.compile(r"[A-Za-z]{4,}")


def is_held_out(word: str) -> bool:
    """One word in sixteen never appears in training text (decided by its letters alone)."""
    letters = "".join(_WORD.findall(word)).lower()
    return bool(letters) and zlib.crc32(letters.encode()) % 16 == 0


def _words_of(paths: list[Path], limit: int) -> list[str]:
    words: list[str] = []
    for path in paths:
        try:
            text = path.read_text(encoding="ascii", errors="ignore")
        except OSError:
            continue
        words += [w for w in text.split() if len(w) <= 16 and w.isprintable()]
        if len(words) > limit:
            break
    return words


@cache
def corpus() -> tuple[list[str], list[str], list[str]]:
    """(prose words, code words, held-out words), the first two in reading order."""
    library = Path(sysconfig.get_paths()["stdlib"])
    prose = [library / "pydoc_data" / "topics.py", library.parent / "LICENSE.txt"]
    prose += sorted(Path("/usr/share/common-licenses").glob("*"))
    prose += sorted(Path("/usr/share/doc").glob("*/copyright"))[:200]
    prose += sorted(Path(sysconfig.get_paths()["purelib"]).glob("*/METADATA"))
    code = sorted(library.glob("*.py"))
    random.Random(0).shuffle(code)
    prose_words, code_words = _words_of(prose, 400_000), _words_of(code, 300_000)
    held = sorted({w for w in prose_words + code_words if is_held_out(w) and w.isascii()})
    return (
        [w for w in prose_words if not is_held_out(w)],
        [w for w in code_words if not is_held_out(w)],
        [w for w in held if re.fullmatch(r"[\"'(]?[A-Za-z][a-zA-Z-]+[.,;:!?)\"']*", w)],
    )


def _run(r: random.Random, words: list[str], length: int) -> str:
    start = r.randrange(max(1, len(words) - 80))
    return " ".join(words[start : start + length // 3 + 3])


def _groups(r: random.Random, alphabet: str, length: int) -> str:
    text = ""
    while len(text) < length:
        text += "".join(r.choice(alphabet) for _ in range(r.randint(1, 9))) + " "
    return text


def _figures(r: random.Random, length: int) -> str:
    """Prices, dates, times, phone-like numbers and addresses: what receipts and forms hold."""
    makers = (
        lambda: f"{r.choice('$')}{r.randint(0, 9999)}.{r.randint(0, 99):02d}",
        lambda: f"{r.randint(0, 999)}.{r.randint(0, 99):02d}",
        lambda: f"{r.randint(1, 28):02d}{(s := r.choice('/-.'))}{r.randint(1, 12):02d}{s}{r.randint(1990, 2039)}",
        lambda: f"{r.randint(0, 23)}:{r.randint(0, 59):02d}",
        lambda: f"{r.randint(1, 12)} x {r.randint(1, 99)}",
        lambda: f"{r.randint(0, 100)}%",
        lambda: f"#{r.randint(0, 99999)}",
        lambda: f"+{r.randint(1, 99)} {r.randint(100, 999)} {r.randint(1000, 9999)}",
        lambda: f"{r.choice(corpus()[0]).strip('.,').lower()}@{r.choice(corpus()[0]).strip('.,').lower()}.com",
        lambda: r.choice(("Total", "TOTAL", "Sum", "Tax", "Qty", "No.", "Date:", "Item", "Price", "USD", "EUR")),
    )
    text = ""
    while len(text) < length:
        text += r.choice(makers)() + " "
    return text


def clean(text: str) -> str:
    return re.sub(" +", " ", "".join(c for c in text if c in CHAR_CLASS)).strip()


def training_text(r: random.Random, length: int) -> str:
    """One line of at least `length` characters where the source allows."""
    prose, code, _ = corpus()
    kind = r.random()
    if kind < 0.38:
        text = _run(r, prose, length)
    elif kind < 0.46:
        text = _run(r, code, length)
    elif kind < 0.62:
        text = " ".join(r.choice(prose) for _ in range(length // 3 + 2))
    elif kind < 0.74:
        letters = string.ascii_lowercase if r.random() < 0.6 else string.ascii_uppercase + string.digits
        text = _groups(r, letters, length)
    elif kind < 0.84:
        text = _figures(r, length)
    elif kind < 0.91:
        text = _groups(r, string.digits * 3 + ".,-/:$%()", length)
    else:
        text = "".join(r.choice(ASCII) for _ in range(length))
    if kind < 0.62:
        style = r.random()
        text = text.upper() if style < 0.1 else text.title() if style < 0.2 else text
    return clean(text) or "a"


_ACCENTS = {
    "a": "àáâãäåæ", "c": "ç", "e": "èéêë", "i": "ìíîï", "n": "ñ", "o": "òóôõöø", "s": "ß", "u": "ùúûü", "y": "ýÿ",
    "A": "ÀÁÂÃÄÅÆ", "C": "Ç", "E": "ÈÉÊË", "I": "ÌÍÎÏ", "N": "Ñ", "O": "ÒÓÔÕÖØ", "U": "ÙÚÛÜ", "Y": "Ý", "D": "Ð",
}  # fmt: skip


def _accented(r: random.Random, text: str, share: float) -> str:
    return "".join(r.choice(_ACCENTS[c]) if c in _ACCENTS and r.random() < share else c for c in text)


def _sum(r: random.Random) -> str:
    """An amount as receipts, invoices and tables write it: commas against full stops matter here."""
    whole = r.choice((r.randint(0, 99), r.randint(0, 9999), r.randint(0, 9_999_999)))
    amount = f"{whole:,}.{r.randint(0, 99):02d}"
    style = r.random()
    if style < 0.25:
        amount = amount.translate(str.maketrans(",.", ".,"))
    elif style < 0.4:
        amount = f"{whole:,}"
    elif style < 0.5:
        amount = f"{whole}.{r.randint(0, 99):02d}"
    sign = r.random()
    if sign < 0.35:
        amount = r.choice("$€£") + r.choice(("", "", " ")) + amount
    elif sign < 0.45:
        amount += r.choice((" €", " EUR", " USD", "%", " £"))
    return r.choice(("-", "")) + amount if style > 0.9 else amount


def _doubled(r: random.Random, words: list[str]) -> str:
    word = r.choice(words)
    return word if re.search(r"(.)\1", word) else r.choice(words)


_THIN = re.compile(r"[ijlItfr1]{2}")
_BEFORE = ("'", '"', "(", "[", "('", '("', "{", '"""', "b'", "-", "--", "<", "@", "$", "#", "‘", "“")
_AFTER = (
    '"""', "'''", '."""', ".'''", "',", '",', "'),", '"),', "')", '")', ");", ".)", ".,", "..", "...", "!'", "?'", "!,",
    "':", '":', "::", ":", ";", "!", "?", "'.", '".', "'];", "]", "}", ">", "),", "))", "().", "(),", "-", "/", "’",
)  # fmt: skip


def _punctuated(r: random.Random, words: list[str]) -> str:
    """A word with marks around it as programs and quotations have them, often one of thin letters."""
    word = r.choice(words)
    for _ in range(2):
        if not _THIN.search(word):
            word = r.choice(words)
    word = word.strip(string.punctuation) or "a"
    style = r.random()
    word = word.upper() if style < 0.12 else word.capitalize() if style < 0.3 else word
    if r.random() < 0.4:
        word = r.choice(_BEFORE) + word
    return word + r.choice(_AFTER) if r.random() < 0.6 else word


def line_text(r: random.Random, length: int) -> str:
    """What one line of a page holds: prose, items, amounts, code, log lines, entries of a list."""
    prose, code, _ = corpus()
    kind = r.random()
    if kind < 0.14:
        text = " ".join(_punctuated(r, prose if r.random() < 0.6 else code) for _ in range(length // 5 + 1))
    elif kind < 0.34:
        return training_text(r, length)
    elif kind < 0.42:
        text = " ".join(_doubled(r, prose) for _ in range(length // 4 + 1))
    elif kind < 0.52:
        text = r.choice(prose).title() + " " + " ".join(_sum(r) for _ in range(length // 8 + 1))
    elif kind < 0.60:
        text = " ".join(_sum(r) for _ in range(length // 6 + 1))
    elif kind < 0.68:
        mark = r.choice(("•", "•", "-", "–", "*", "1.", "2)", "a)", "—", "·"))
        text = mark + " " + _run(r, prose, length)
    elif kind < 0.76:
        text = _accented(r, _run(r, prose, length), r.choice((0.03, 0.15, 0.4)))
    elif kind < 0.80:
        text = _quoted(r, _run(r, prose, length))
    elif kind < 0.86:
        text = _run(r, code, length)
    elif kind < 0.92:
        stamp = f"{r.randint(1990, 2039)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"
        clock = f"{r.randint(0, 23):02d}:{r.randint(0, 59):02d}:{r.randint(0, 59):02d}"
        level = r.choice(("INFO", "WARN", "ERROR", "DEBUG"))
        text = f"{stamp} {clock} {level} {_run(r, code, length)}"
    elif kind < 0.96:
        text = _groups(r, SIGNS + ACCENTED + ASCII, length)
    else:
        text = r.choice(("-", "=", "_", ".", "*")) * r.randint(3, 9) + " " + r.choice(prose)
    return clean(text) or "a"


def _quoted(r: random.Random, text: str) -> str:
    words = text.split()
    if len(words) > 3:
        at = r.randrange(len(words) - 2)
        left, right = r.choice(("“”", "‘’", "«»", '""', "()", "[]"))
        words[at] = left + words[at]
        end = min(len(words) - 1, at + r.randint(0, 3))
        words[end] += right
        if r.random() < 0.3:
            words.insert(at, r.choice(("–", "—", "…")))
    return " ".join(words).replace("'", r.choice("'’"))


def held_out_text(r: random.Random, length: int) -> str:
    """A line of words that training never saw, with some figures between them."""
    held = corpus()[2]
    parts: list[str] = []
    while sum(map(len, parts)) + len(parts) < length + 4:
        kind = r.random()
        word = r.choice(held)
        if kind < 0.15:
            parts.append(_figures(r, 3).split(" ")[0])
        elif kind < 0.22:
            parts.append(word.upper())
        elif kind < 0.35:
            parts.append(word.capitalize())
        else:
            parts.append(word)
    return clean(" ".join(parts)) or "a"
