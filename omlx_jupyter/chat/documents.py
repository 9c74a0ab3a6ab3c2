"""Pages by regions: each is read for what it is, all of them in one batch, and put together as Markdown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

from ..engine.readable import Readable
from ..types import Delta, FinishReason, Generation, ImagePart, Message, SamplingParams
from .pages import PageHandle, PageText, Reading, TextLine, cut_page, read_page, recipe_for
from .several import Several

if TYPE_CHECKING:
    from ..images.decoded import DecodedImage
    from ..models.layout_model import LayoutModel
    from ..reading.types import Box, Kind, Page, Region

_MARGIN = 6  # px of the page round a region that is cut out

# What families were trained to be asked, by the kind of region; "" is for every other kind
_PROMPTS: dict[str, Mapping[str, str]] = {
    "glm_ocr": {"": "Text Recognition:", "table": "Table Recognition:", "formula": "Formula Recognition:"},
    "paddleocr_vl": {"": "OCR:", "table": "Table Recognition:", "formula": "Formula Recognition:"},
    "deepseekocr": {"": "Free OCR.", "table": "Convert the document to markdown."},
    "deepseekocr_2": {"": "Free OCR.", "table": "Convert the document to markdown."},
}
_ANY = {
    "": "Read the text in this picture. Answer with the text alone.",
    "code": "Read the code in this picture, with its indents. Answer with the code alone.",
    "table": "Write the table in this picture as an HTML table. Answer with the table alone.",
    "formula": "Write the formula in this picture in LaTeX. Answer with the formula alone.",
}


@dataclass(frozen=True)
class TextRegion:
    """A region that was read: `text` is Markdown (or a table's HTML), `box` four corners in the page's pixels,
    `picture` what a figure shows."""

    kind: Kind
    text: str
    box: Box
    score: float = 1.0
    picture: DecodedImage | None = None


@dataclass(frozen=True)
class Document(PageText):
    """A page's answer with its `regions` in reading order; `text` is all of them in Markdown."""

    regions: tuple[TextRegion, ...] = ()


def read_document(
    engine: Any,
    picture: DecodedImage,
    detector: LayoutModel | None = None,
    sampling: SamplingParams | None = None,
    *,
    draft: bool = True,
    hint: str = "",
) -> CutDocument | RegionDocument:
    """Find the page's regions, queue what is to be read and return. Regions come from `detector`, or from the page's
    white space.

    :raises ModelError: the detector failed.
    :raises EngineClosedError: the engine was closed.
    """
    recipe = recipe_for(engine)
    if detector is None and recipe is not None:
        page = read_page(engine, picture, recipe, sampling, draft=draft, hint=hint, figures=True)
        return CutDocument(page, picture)
    began = time.monotonic()
    found, notes = _found(picture, detector)
    parts: list[tuple[Region, Reading | None]] = []
    try:
        for region in found:
            part = None if region.kind == "figure" else _ask(engine, region, picture, sampling, draft, hint)
            parts.append((region, part))
    except BaseException:
        for _, part in parts:
            if part is not None:
                part.cancel()
        raise
    return RegionDocument(parts, picture, began, notes)


def _found(picture: DecodedImage, detector: LayoutModel | None) -> tuple[list[Region], tuple[str, ...]]:
    """(regions, what is said of them). A page without any is one region of text."""
    from ..reading.recipe import Recipe
    from ..reading.regions import regions_of
    from ..reading.types import Kind, Region

    found: list[Region] = []
    notes: tuple[str, ...] = ()
    if detector is None:
        page = cut_page(picture, Recipe(), figures=True)
        found = regions_of(page)
        notes = (f"one region: {page.reason}",) if page.whole else ()
        if not (found or page.whole):
            return [], ("the page has no ink",)
    else:
        for one in detector.detect(picture):
            kind = cast(Kind, one.kind if one.kind in get_args(Kind) else "text")
            found.append(Region(kind, _corners(*one.box), score=one.score))
        notes = () if found else (f"{detector.name} found no regions: the page is read as one",)
    return found or [Region("text", _corners(0, 0, picture.width, picture.height))], notes


def _corners(left: float, top: float, right: float, bottom: float) -> Box:
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _ask(
    engine: Any, region: Region, picture: DecodedImage, sampling: SamplingParams | None, draft: bool, hint: str
) -> Reading:
    """The request for one region: by the checkpoint's recipe, or with the words for its kind."""
    part = cut_out(picture, region.box)
    recipe = recipe_for(engine)
    if recipe is not None:
        return read_page(engine, part, recipe, sampling, draft=draft, hint=hint or picture.text)
    words = _PROMPTS.get(engine.family, _ANY)
    prompt = words.get(region.kind) or words[""]
    known: dict[str, Any] = {"draft": draft, "hint": hint or picture.text}
    asked = [Message("user", [ImagePart(part), prompt])]
    return cast(Reading, engine.submit(asked, sampling=sampling, **known))


def _origin(box: Sequence[Sequence[float]], margin: int = _MARGIN) -> tuple[int, int]:
    """The left top of what `cut_out` cuts."""
    return max(0, int(min(x for x, _ in box)) - margin), max(0, int(min(y for _, y in box)) - margin)


def cut_out(picture: DecodedImage, box: Sequence[Sequence[float]], margin: int = _MARGIN) -> DecodedImage:
    """The part of a picture round four corners."""
    from ..images.decoded import DecodedImage

    across, down = [x for x, _ in box], [y for _, y in box]
    left, top = _origin(box, margin)
    right, bottom = min(picture.width, int(max(across)) + margin + 1), min(picture.height, int(max(down)) + margin + 1)
    return DecodedImage(picture.pixels[top:bottom, left:right].copy(), picture.source)


def _document(made: Generation, regions: Sequence[TextRegion], notes: Sequence[str] = ()) -> Document:
    text = "\n\n".join(region.text for region in regions if region.text)
    known = {name: held for name, held in vars(made).items() if name not in ("text", "notes", "regions")}
    return Document(**known, text=text, notes=(*made.notes, *notes), regions=tuple(regions))


def _lines_of(region: Region, part: Reading | None) -> list[TextLine]:
    """A region's lines, where it was read by lines, in the page's pixels."""
    x, y = _origin(region.box)
    lines: Sequence[TextLine] = getattr(part.result(), "lines", ()) if part is not None else ()
    return [replace(line, box=tuple((a + x, b + y) for a, b in line.box)) for line in lines]


class CutDocument(Several[Document]):
    """A page that is read line by line; its regions are told by white space when its lines are known."""

    def __init__(self, page: PageHandle, picture: DecodedImage) -> None:
        super().__init__([page], time.monotonic())
        self._page, self._picture = page, picture

    def poll(self, timeout: float | None = 0.0) -> tuple[list[Delta], bool]:
        return self._page.poll(timeout)

    def result(self, timeout: float | None = None) -> Document:
        if self._result is None:
            made = self._page.result(timeout)
            self._result = _document(made, self._regions(made))
        return self._result

    result.__doc__ = Readable.result.__doc__

    def _regions(self, made: PageText) -> list[TextRegion]:
        from ..reading.document import markdown_of
        from ..reading.regions import regions_of

        page = self._page.page
        if page.whole:
            box = _corners(0, 0, *page.size)
            return [TextRegion("text", made.text, box)] if made.text else []
        texts = self._page.texts()[0]
        found: list[TextRegion] = []
        figures = 0
        for region in regions_of(page, texts):
            figures += region.kind == "figure"
            text = markdown_of(region.kind, _said(page, region, texts), figures)
            shown = cut_out(self._picture, region.box, 0) if region.kind == "figure" else None
            found.append(TextRegion(region.kind, text, region.box, region.score, shown))
        return found


def _said(page: Page, region: Region, texts: list[list[str | None]]) -> str:
    """A region's lines as they are read; a table's as a table."""
    from ..reading.document import table_of
    from ..reading.page import join
    from ..reading.regions import table_rows

    if region.kind == "table":
        return table_of(table_rows(page, region, texts))
    mine = [texts[n] if n in region.lines else [None] * len(row) for n, row in enumerate(texts)]
    text = join(page, mine)
    return text if region.kind == "code" else "\n".join(line.strip() for line in text.split("\n"))


class RegionDocument(Several[Document]):
    """A page whose regions are requests of their own. Iterate it for them as they come, in order."""

    def __init__(
        self,
        parts: Sequence[tuple[Region, Reading | None]],
        picture: DecodedImage,
        began: float,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__([part for _, part in parts if part is not None], began)
        self._parts, self._picture, self._notes = list(parts), picture, tuple(notes)
        self._told, self._said = 0, False

    def poll(self, timeout: float | None = 0.0) -> tuple[list[Delta], bool]:
        """(the text of regions that were finished, whether that was all), waiting at most `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            made = self._ready()
            ended = self._told == len(self._parts)
            left = None if deadline is None else deadline - time.monotonic()
            if made or ended or (left is not None and left <= 0):
                return made, ended
            waited = self._parts[self._told][1]
            assert waited is not None
            waited.poll(left)

    def _ready(self) -> list[Delta]:
        made: list[Delta] = []
        while self._told < len(self._parts):
            part = self._parts[self._told][1]
            if part is not None and not part.done:
                break
            if text := self._region(self._told).text:
                made.append(Delta(("\n\n" if self._said else "") + text))
                self._said = True
            self._told += 1
        return made

    def _region(self, number: int) -> TextRegion:
        from ..reading.document import markdown_of, unfenced

        region, part = self._parts[number]
        if part is None:
            figures = sum(other.kind == "figure" for other, _ in self._parts[: number + 1])
            shown = cut_out(self._picture, region.box, 0)
            return TextRegion(region.kind, markdown_of("figure", "", figures), region.box, region.score, shown)
        text = unfenced(part.result().text)
        return TextRegion(region.kind, markdown_of(region.kind, text), region.box, region.score)

    def result(self, timeout: float | None = None) -> Document:
        if self._result is None:
            deadline = None if timeout is None else time.monotonic() + timeout
            for handle in self._handles:
                handle.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
            done = [handle.result() for handle in self._handles]
            regions = [self._region(number) for number in range(len(self._parts))]
            reasons = [made.finish_reason for made in done]
            reason = next((r for r in ("cancelled", "length") if r in reasons), "stop")
            logprobs = (
                None if any(made.logprobs is None for made in done) else [t for m in done for t in m.logprobs or ()]
            )
            whole = PageText(
                text="",
                token_ids=[token for made in done for token in made.token_ids],
                finish_reason=cast(FinishReason, reason),
                usage=self.sums(),
                detail=next((made.detail for made in done if made.finish_reason == reason != "stop"), ""),
                notes=tuple(dict.fromkeys(note for made in done for note in made.notes)),
                logprobs=logprobs,
                lines=tuple(line for region, part in self._parts for line in _lines_of(region, part)),
            )
            self._result = _document(whole, regions, self._notes)
        return self._result

    result.__doc__ = Readable.result.__doc__
