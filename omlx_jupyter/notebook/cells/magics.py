"""`%ocr`, `%%vlm` and `%omlx`: their flags and their help. `%load_ext` imports this, so what carries them out is
imported by the first one that runs."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from ...errors import OmlxError
from ..plain import shown
from .options import OCR, VLM, documented, parser

if TYPE_CHECKING:
    from ...runs.run import Run
    from ..answers.result import Result, ResultList
    from ..shell import Shell


def flags() -> dict[str, list[str]]:
    """The flags of each magic, for completion."""
    declared = {"ocr": OCR, "vlm": VLM}
    return {
        name: sorted(f for option in options for f in option.flags.split(", ")) for name, options in declared.items()
    }


def _seen(shell: Shell) -> dict[str, Any]:
    """The names that expressions see: the notebook's, and those of a function that runs the magic.

    IPython tells line magics of them, cell magics not: so its caller is looked at.
    """
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name not in ("run_line_magic", "run_cell_magic"):
        frame = frame.f_back  # type: ignore[assignment]
    caller = frame.f_back if frame is not None else None
    inside = caller is not None and caller.f_globals is shell.user_ns and caller.f_code.co_flags & inspect.CO_NEWLOCALS
    return {**shell.user_ns, **(caller.f_locals if inside and caller is not None else {})}


@magics_class
class OmlxMagics(Magics):
    """The extension's magics, bound to one shell."""

    @no_var_expand
    @line_magic
    @documented("%ocr", OCR, sources=True)
    def ocr(self, line: str) -> Result | ResultList | Run:
        """Read the text in pictures.

            USAGE

        SOURCE is a Python name or expression of the notebook, a path, a glob, a URL or pages of a PDF.
        Pages run in one batch and the answers come back in order. The embedded model reads a page line by
        line (turned upright, columns one after another, cells of a table with tabs between them); --whole
        hands it over as it is, and --boxes draws the lines on the page.

        OPTIONS

        Examples::

            %ocr receipt.png
            %ocr scans/*.png report.pdf[1-3,7] -o pages
            %ocr scans/ --save scans.jsonl -o run
            %ocr fig
            %ocr letter.png --boxes
            %ocr images[0] "a name with blanks.png"
            %ocr https://example.org/page.png --max-tokens 500
            %ocr second_edition.png --hint first_edition.text
            text = %ocr receipt.png

        The result has .text, .lines (text, box, log-probability), .usage and .images and is also `_`. Of
        several pictures it is a list in order; one that can't be read is a Failure in its place. After an
        interrupt the same line goes on
        where it stopped.
        """
        try:
            args = parser("%ocr", OCR, sources=True).parse_line(line)
            from .read_cell import read_cell

            return read_cell(self.shell, args, _seen(self.shell))
        except (OmlxError, UsageError) as error:
            raise UsageError(shown(error)) from None

    @no_var_expand
    @line_cell_magic
    @documented("%%vlm", VLM, sources=False)
    def vlm(self, line: str, cell: str | None = None) -> Any:
        """Ask a vision-language model; the cell is the prompt.

            USAGE

        {expr} in the cell is evaluated in the notebook: a picture (or a list of them) goes in at that
        place, a DataFrame as a table, anything else as text; {{ and }} are braces. SOURCE is a Python
        name or expression, a path, a glob or a URL; -i pictures come before the text, in order.

        OPTIONS

        Examples::

            %%vlm
            What has changed between {before} and {after}?

            %%vlm -i scans/*.png -o summary
            Summarise these pages.

            %%vlm --chat trip
            And who took {photos[2]}?

            %%vlm --json Receipt
            {img} Give shop, date and total.

            %%vlm --compare tiny-ocr,org/name -o both
            {page} What is the total?

            %%vlm --tools pictures,look_up
            {plan} What is written in the corner, and what does it cost?

            %%vlm --think-budget 500
            How many chairs are in {photo}?

        The result has .text, .thinking, .usage, .images and .messages and is also `_`.
        `%vlm last` shows the last answer again, `%vlm last 3` the third from the end: where an
        output was cleared, or the page closed while it was written.
        """
        try:
            if cell is None:
                from ..work.latest import last

                return last(line)
            args = parser("%%vlm", VLM, sources=False).parse_line(line)
            from .ask_cell import vlm_cell

            return vlm_cell(self.shell, args, cell, _seen(self.shell))
        except (OmlxError, UsageError) as error:
            raise UsageError(shown(error)) from None

    @line_magic
    def omlx(self, line: str) -> Any:
        """Manage the model of this kernel.

            %omlx chats          conversations: fork, clear, export
            %omlx jobs           background cells: wait, cancel
            %omlx dashboard      what the engine is doing, live
            %omlx doctor [NAME_OR_URL]   what works on this machine; with a name, a connection step by step
            %omlx settings       every setting, its value and where it comes from
            %omlx set [MODEL] KEY=VALUE ...   keep temperature, max_tokens, think, alias and more for a model
            %omlx load MODEL     load a folder or a hub id (tiny-ocr is the embedded model); --drafter NAME: with a
                                 drafter model that was made for it
            %omlx unload         end the engine and free its memory
            %omlx status         what is loaded and what it is doing
            %omlx model          what the loaded model may do, and why not; --prove shows it anew
            %omlx memory         who holds how much, and what bounds it
            %omlx models         models that are on this machine
            %omlx cache          what the prefix cache holds and has saved
            %omlx cache clear [MODEL]   empty it, or what it holds of one model
            %omlx cache verify   check every stored block
            %omlx connect NAME_OR_URL [--model M] [--key-env VAR]   use an engine that lives elsewhere: a server of this
                                 machine by its name, or one that speaks OpenAI's shapes by its address; VAR is the
                                 variable of the environment that holds its key
            %omlx disconnect     go back to this kernel's own engine
            %omlx serve [--name N] [--model M ...] [--port P] [--idle-exit S]   start a server for all kernels, which
                                 outlives this one, and go over to it

        Examples::

            %omlx load mlx-community/Qwen2.5-VL-3B-Instruct-4bit
            %omlx load ~/models/glm-ocr
            %omlx set mlx-community/Qwen2.5-VL-3B-Instruct-4bit temperature=0.2 alias=qwen
            %omlx load Qwen/Qwen3-4B --drafter z-lab/Qwen3-4B-DFlash-b16
            %omlx serve
            %omlx connect http://127.0.0.1:8000/v1 --model Qwen/Qwen3-VL-8B-Instruct
            %omlx status
        """
        try:
            from ..manage import commands

            return commands.run_command(self.shell, line)
        except (OmlxError, UsageError) as error:
            raise UsageError(shown(error)) from None
