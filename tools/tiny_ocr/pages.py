"""Pages that our renderer didn't make: HTML set by Chromium, as screenshots and as PDF pages drawn by pdfium."""

from __future__ import annotations

import html
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .text import held_out_text

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions")


@dataclass
class Sample:
    """A picture and the text on it; blanks inside a line count as one."""

    image: Image.Image
    text: str


@dataclass
class Sheet:
    body: str
    css: str
    text: str
    width: int = 760
    height: int = 900


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _words(r: random.Random, length: int) -> str:
    return held_out_text(r, length)[:length].rsplit(" ", 1)[0]


def _amount(r: random.Random) -> str:
    return f"{r.choice((r.randint(1, 99), r.randint(100, 9999))):,}.{r.randint(0, 99):02d}"


def letter(r: random.Random) -> Sheet:
    family = r.choice(("serif", "sans-serif", "Carlito", "Lato"))
    paragraphs = [[_words(r, r.randint(48, 62)) for _ in range(r.randint(2, 4))] for _ in range(3)]
    head = [_words(r, 22), _words(r, 26)]
    date = f"{r.randint(1, 28)} June 20{r.randint(10, 39)}"
    body = "<br>".join(map(html.escape, head)) + f"<p style='text-align:right'>{date}</p>"
    body += "".join(f"<p>{'<br>'.join(map(html.escape, p))}</p>" for p in paragraphs)
    text = "\n".join([*head, date, *("\n".join(p) for p in paragraphs)])
    return Sheet(body, f"font:{r.randint(14, 18)}px/1.4 {family};margin:36px;white-space:nowrap", text)


def receipt(r: random.Random) -> Sheet:
    rows = [(_words(r, r.randint(8, 20)), _amount(r)) for _ in range(r.randint(5, 8))]
    rows.append(("Total", _amount(r)))
    title = _words(r, 16)
    cells = "".join(f"<div class=r><span>{html.escape(a)}</span><span>{b}</span></div>" for a, b in rows)
    css = (
        f"font:{r.randint(13, 17)}px/1.5 {r.choice(('monospace', 'sans-serif', 'Inconsolata'))};margin:20px;width:300px"
    )
    text = "\n".join([title, *(f"{a} {b}" for a, b in rows)])
    style = "<style>.r{display:flex;justify-content:space-between}</style>"
    return Sheet(f"{style}<b>{html.escape(title)}</b>{cells}", css, text, 340, 420)


def columns(r: random.Random) -> Sheet:
    sides = [[_words(r, r.randint(34, 42)) for _ in range(r.randint(9, 13))] for _ in range(2)]
    title = _words(r, 30)
    made = "".join(f"<div>{'<br>'.join(map(html.escape, side))}</div>" for side in sides)
    css = f"font:{r.randint(13, 15)}px/1.4 {r.choice(('serif', 'sans-serif', 'Lato'))};margin:30px;white-space:nowrap"
    body = f"<h2>{html.escape(title)}</h2><div style='display:flex;gap:44px'>{made}</div>"
    return Sheet(body, css, "\n".join([title, *sides[0], *sides[1]]), 860, 480)


def code(r: random.Random) -> Sheet:
    names = [held_out_text(r, 6).split()[0].strip(".,;:!?\"'()").lower() for _ in range(6)]
    a, b, c, d, e, f = names
    lines = [
        f"def {a}({b}, {c}=0):",
        f'    """{_words(r, 28)}."""',
        f"    for {d} in {b}:",
        f"        if {d} > {c}:",
        f"            {e} = {d} * {r.randint(2, 99)}",
        f"            print({e}, {f!r})",
        f"    return [{c}, {r.randint(100, 999)}]",
    ]
    css = f"font:{r.randint(14, 17)}px/1.4 monospace;margin:20px;white-space:pre"
    return Sheet("\n".join(map(html.escape, lines)), css, "\n".join(lines), 620, 280)


def table(r: random.Random) -> Sheet:
    head = ("Item", "Number", "Price", "Sum")
    rows = [(_words(r, 16), str(r.randint(1, 90)), _amount(r), _amount(r)) for _ in range(7)]
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in (head, *rows))
    border = r.choice(("0", "1px solid #888"))
    style = f"<style>td{{padding:4px 26px 4px 8px;border:{border}}}table{{border-collapse:collapse}}</style>"
    css = f"font:{r.randint(13, 16)}px/1.4 {r.choice(('sans-serif', 'Carlito', 'serif'))};margin:24px"
    return Sheet(f"{style}<table>{cells}</table>", css, "\n".join(" ".join(row) for row in (head, *rows)), 700, 380)


def terminal(r: random.Random) -> Sheet:
    stamps = [f"{r.randint(10, 23)}:{r.randint(10, 59)}:{r.randint(10, 59)}" for _ in range(8)]
    lines = [f"{s} {r.choice(('INFO', 'WARN', 'ERROR'))} {_words(r, r.randint(20, 40))}" for s in stamps]
    css = f"font:{r.randint(13, 16)}px/1.45 {r.choice(('monospace', 'Inconsolata'))};margin:0;padding:16px;"
    css += "white-space:pre;"
    css += (
        f"background:{r.choice(('#1e1e1e', '#002b36', '#282c34'))};color:{r.choice(('#d4d4d4', '#93a1a1', '#e0e0e0'))}"
    )
    return Sheet("\n".join(map(html.escape, lines)), css, "\n".join(lines), 700, 260)


def lines(r: random.Random) -> Sheet:
    """A plain page of one to ten lines."""
    size = r.randint(11, 24)
    most = min(60, int(640 / (size * 0.62)))
    text = [_words(r, r.randint(most // 2, most)) for _ in range(r.randint(1, 10))]
    family = r.choice(("sans-serif", "serif", "monospace", "Lato", "Carlito"))
    css = f"font:{size}px/1.35 {family};margin:10px;white-space:nowrap"
    return Sheet("<br>".join(map(html.escape, text)), css, "\n".join(text), 720, int(size * 1.35 * len(text)) + 40)


KINDS: dict[str, Callable[[random.Random], Sheet]] = {
    "letter": letter,
    "receipt": receipt,
    "two columns": columns,
    "code": code,
    "table": table,
    "dark terminal": terminal,
}


def _page(sheet: Sheet) -> str:
    return f'<!doctype html><meta charset=utf-8><body style="{sheet.css.replace(chr(34), "")}">{sheet.body}</body>'


def screenshot(sheet: Sheet, browser: str) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        page, target = Path(folder) / "page.html", Path(folder) / "page.png"
        page.write_text(_page(sheet), encoding="utf-8")
        size = f"--window-size={sheet.width},{max(500, sheet.height)}"
        command = [browser, *FLAGS, *QUIET, f"--user-data-dir={folder}/profile", size, f"--screenshot={target}"]
        subprocess.run([*command, page.as_uri()], check=True, capture_output=True)
        return Sample(Image.open(target).convert("RGB").crop((0, 0, sheet.width, sheet.height)), sheet.text)


def pdf_page(sheet: Sheet, browser: str, dpi: int = 130) -> Sample:
    import pypdfium2

    with tempfile.TemporaryDirectory() as folder:
        page, target = Path(folder) / "page.html", Path(folder) / "page.pdf"
        page.write_text(_page(sheet), encoding="utf-8")
        command = [browser, *FLAGS, *QUIET, f"--user-data-dir={folder}/profile", "--no-pdf-header-footer"]
        subprocess.run([*command, f"--print-to-pdf={target}", page.as_uri()], check=True, capture_output=True)
        with pypdfium2.PdfDocument(target) as document:
            return Sample(document[0].render(scale=dpi / 72).to_pil().convert("RGB"), sheet.text)
