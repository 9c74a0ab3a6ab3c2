"""`%ocr`, `%%vlm` and `%omlx`."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from ..errors import OmlxError
from ..images.decoded import DecodedImage
from ..images.source import open_images
from . import management, run
from .arguments import MagicParser, is_name, positive, resolve_source
from .config import settings
from .result import Result, ResultList
from .stream_view import make_view


def _ocr_parser() -> MagicParser:
    parser = MagicParser(prog="%ocr", add_help=False)
    parser.add_argument("source", nargs="+")
    parser.add_argument("--prompt", default=None)
    parser.add_argument("--max-tokens", type=positive)
    parser.add_argument("--all-frames", action="store_true")
    parser.add_argument("-o", "--out", type=is_name, metavar="NAME")
    return parser


def _vlm_parser() -> MagicParser:
    parser = MagicParser(prog="%%vlm", add_help=False)
    parser.add_argument("-i", "--image", dest="image", nargs="+", action="extend", default=[], metavar="SOURCE")
    parser.add_argument("-o", "--out", type=is_name, metavar="NAME")
    parser.add_argument("--max-tokens", type=positive)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--stop", action="append")
    parser.add_argument("--system")
    parser.add_argument("--all-frames", action="store_true")
    return parser


@magics_class
class OmlxMagics(Magics):
    """The extension's magics, bound to one shell."""

    @no_var_expand
    @line_magic
    def ocr(self, line: str) -> Result | ResultList:
        """Read the text in pictures.

            %ocr SOURCE... [--prompt TEXT] [--max-tokens N] [--all-frames] [-o NAME]

        SOURCE is a Python name or expression of the notebook, a path, a glob or a URL.
        Each picture is one request; they run in one batch and the answers come back in order.

        Examples::

            %ocr receipt.png
            %ocr scans/*.png -o pages
            %ocr fig
            %ocr images[0] "a name with blanks.png"
            %ocr https://example.org/page.png --max-tokens 500
            text = %ocr receipt.png

        The result has .text, .usage and .images and is also `_`.
        """
        try:
            args = _ocr_parser().parse_line(line)
            images = self._open(args.source, args.all_frames)
            sampling = run.sampling_from(args)
            return self._read_all(images, args.prompt, sampling, args.out)
        except OmlxError as error:
            raise run.one_line(error) from None

    def _read_all(self, images: list[DecodedImage], prompt: str | None, sampling: Any, name: str | None) -> Any:
        results = ResultList()
        view = make_view(self.shell)
        handles: list[Any] = []
        try:
            # All are queued at once, so that they share the batch; they are shown in order.
            self._queue_all(handles, images, prompt, sampling, view)
            for index, (handle, image) in enumerate(zip(handles, images, strict=True)):
                shown = view if index == 0 else make_view(self.shell)
                results.append(run.watch(handle, shown, [image], prompt))
        except run.Interrupted as stopped:
            if stopped.result is not None:
                results.append(stopped.result)
            if results:
                run.keep_as_last(self.shell, results[0] if len(results) == 1 else results, name)
            raise
        finally:
            for handle in handles:
                handle.cancel()  # without effect on those that have ended
        value = results[0] if len(results) == 1 else results
        value.shown(self.shell)
        run.keep(self.shell, value, name)
        return value

    @staticmethod
    def _queue_all(
        handles: list[Any], images: list[DecodedImage], prompt: str | None, sampling: Any, view: Any
    ) -> None:
        try:
            for image in images:
                handles.append(run.start(prompt, [image], sampling, view=view))  # noqa: PERF401 (kept if one fails)
        except BaseException:
            view.fail()
            raise

    @no_var_expand
    @cell_magic
    def vlm(self, line: str, cell: str) -> Result:
        """Ask a vision-language model; the cell is the prompt.

            %%vlm [-i SOURCE ...] [-o NAME] [--max-tokens N] [--temperature T] [--top-p P]
                  [--seed N] [--stop TEXT] [--system TEXT] [--all-frames]

        SOURCE is a Python name or expression of the notebook, a path, a glob or a URL.
        The pictures come before the text, in order.

        Examples::

            %%vlm -i chart.png
            What does this chart show?

            %%vlm -i before.png after.png -o diff
            What has changed?

            %%vlm -i fig --temperature 0.7 --seed 1
            Suggest a title.

        The result has .text, .usage and .images and is also `_`.
        """
        try:
            args = _vlm_parser().parse_line(line)
            images = self._open(args.image, args.all_frames) if args.image else []
            if not cell.strip() and not images:
                raise UsageError("%%vlm: the cell is empty; write a question below the first line.")
            sampling = run.sampling_from(args)
            result = run.ask(self.shell, cell.strip() or None, images, sampling, args.system)
        except run.Interrupted as stopped:
            if stopped.result is not None:
                run.keep_as_last(self.shell, stopped.result, args.out)
            raise
        except OmlxError as error:
            raise run.one_line(error) from None
        result.shown(self.shell)
        run.keep(self.shell, result, args.out)
        return result

    @line_magic
    def omlx(self, line: str) -> None:
        """Manage the model of this kernel.

            %omlx load MODEL     load a folder or a hub id (tiny-ocr is the embedded model)
            %omlx unload         end the engine and free its memory
            %omlx status         what is loaded and what it is doing
            %omlx models         models that are on this machine
            %omlx cache          what the prefix cache holds and has saved
            %omlx cache clear [MODEL]   empty it, or what it holds of one model
            %omlx cache verify   check every stored block

        Examples::

            %omlx load mlx-community/Qwen2.5-VL-3B-Instruct-4bit
            %omlx load ~/models/glm-ocr
            %omlx status
        """
        try:
            management.run_command(self.shell, line)
        except OmlxError as error:
            raise run.one_line(error) from None

    def _open(self, sources: list[str], all_frames: bool) -> list[DecodedImage]:
        limits, frames = settings().image_limits(), "all" if all_frames else "first"
        opened: list[DecodedImage] = []
        for word in sources:
            value = resolve_source(word, self.shell.user_ns)
            label = word if not isinstance(value, str) else ""
            if value is None:
                raise UsageError(f"{word} is None; it holds no picture.")
            opened += open_images(value, limits, frames, label)  # type: ignore[arg-type]
        return opened
