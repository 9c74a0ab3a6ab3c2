"""The front door: load a model, submit requests, read answers."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from ..cache.defaults import default_settings
from ..cache.prefix_cache import CacheSettings
from ..errors import EngineClosedError, ProcessError
from ..images.decoded import Limits as ImageLimits
from ..images.grounding import Grounding, grounding_in
from ..types import Generation, ImagePart, Message, SamplingParams
from .front import Front, TakenApart
from .lanes import Finished, Lane, lanes_of
from .loop import EngineLoop
from .process import check_can_load
from .prompt import as_messages, preparation, refuse_endless, template_use, with_ocr_defaults
from .request import Request, RequestHandle
from .scheduler import Limits
from .state import Wants
from .stats import Capabilities, EngineStats, capabilities_of

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel
    from ..models.tools import ToolParser
    from ..types import Tools
    from .runner import Runner

_DEFAULT_MODEL: list[str | Path | None] = [None]
_LOOPS: weakref.WeakSet[EngineLoop] = weakref.WeakSet()  # to be closed before the interpreter goes


def set_default_model(name: str | Path | None) -> None:
    """What `Engine.load()` loads. None is the embedded model."""
    _DEFAULT_MODEL[0] = name


class Engine(Front):
    """A loaded model behind one thread. Safe to use from any thread and from async code, not after a fork.

    One that nobody holds any longer ends, and frees its model, when its last request has.

    engine = Engine.load()
    out = engine.generate("What does it say?", images=["receipt.png"])
    print(out.text, out.usage.line())
    engine.close()
    """

    def __init__(self, loop: EngineLoop, image_limits: ImageLimits, pixel_budget: int) -> None:
        self._loop = loop
        self._image_limits = replace(image_limits, pixel_budget=pixel_budget)
        self._pixel_budget, self._sampling = pixel_budget, SamplingParams()
        model = loop.model
        assert model is not None  # a loaded one is handed in
        self.name: str = model.name
        self.is_ocr: bool = model.ocr is not None
        self.sees: bool = model.vision is not None
        self.thinks: bool = model.tokenizer.markers is not None  # its thoughts can be told from its answers
        self.path: Path = model.checkpoint.path
        self.family: str = model.checkpoint.model_type
        self.grounding: Grounding = replace(grounding_in(self.path, self.family), budget=pixel_budget)
        self.context: int = model.context  # tokens; 0 is unknown
        self.pixel_budget = pixel_budget
        self.drafter = ""  # the one that was named, whether or not it serves
        self.warnings: tuple[str, ...] = model.warnings
        _LOOPS.add(loop)
        weakref.finalize(self, loop.retire).atexit = False

    @classmethod
    def load(
        cls,
        path_or_repo_id: str | Path | None = None,
        *,
        limits: Limits | None = None,
        image_limits: ImageLimits | None = None,
        feature_bytes: int = 256 * 2**20,
        pixel_budget: int = 4_000_000,
        cache: CacheSettings | None = None,
        memory_bytes: int = 0,
        drafter: str | Path | None = None,
        trust_code: bool = False,
        sampling: SamplingParams | None = None,
        on_wait: Callable[[float, float], None] | None = None,
    ) -> Self:
        """Load a model: a folder, a hub id, or None for the configured default, else the embedded one.

        `cache` holds the prefix cache's budgets and folder (`cache_settings()` makes one); None is
        the default, RAM over the folder that all kernels of this user share.
        `memory_bytes` bounds all that `stats().memory` has an account of; 0 is what `limits` says.
        `drafter` is a drafter model (DFlash) trained for this one; one that doesn't fit is left out, as `warnings` say.
        A picture with more pixels than `pixel_budget` is shrunk, and its answer's `notes` say so.
        `sampling` is what requests take where they say nothing, before the checkpoint's own defaults.
        `on_wait` is called about twenty times a second while loading, with the seconds so far and the
        share of the weights, 0 to 1, that is in memory.

        :raises ModelError: one sentence that names the mend.
        :raises ProcessError: this is a forked child of a process that had an engine.
        """
        check_can_load()
        name = _DEFAULT_MODEL[0] if path_or_repo_id is None else path_or_repo_id
        read = [0.0]
        told = partial(read.__setitem__, 0)

        def load() -> LoadedModel:
            from ..models.loader import load_model

            return load_model(name, trust_code, told, drafter=drafter, prove_s=bounds.prove_s)

        def run(model: LoadedModel, limits: Limits) -> Runner:
            from .runner import Runner

            return Runner(model, limits, feature_bytes, settings)

        settings = cache or default_settings()
        limits = limits or Limits()
        bounds = replace(limits, memory_bytes=memory_bytes or limits.memory_bytes)
        loop = EngineLoop(load, bounds, run, settings.folder)
        try:
            loop.wait_loaded(on_wait and (lambda seconds: on_wait(seconds, read[0])))
        except BaseException:
            loop.close(wait=False)  # an interrupted load ends by itself
            raise
        made = cls(loop, image_limits or ImageLimits(), pixel_budget)
        made._sampling, made.drafter = sampling or made._sampling, str(drafter or "")
        return made

    def submit(
        self,
        prompt: str | Sequence[Message] | None = None,
        images: object = (),
        sampling: SamplingParams | None = None,
        *,
        system: str | None = None,
        tools: Sequence[object] | None = None,
        chat_template_kwargs: Mapping[str, object] | None = None,
        draft: bool = True,
        hint: str = "",
        begin: str = "",
        group: int = 0,
    ) -> RequestHandle:
        """Queue a request and return at once.

        `images` takes whatever `omlx_jupyter.images` takes; a glob or a list counts as its pictures.
        A picture without a prompt gets an OCR model's own prompt and settings. Errors of the
        pictures and the prompt come out of the handle. `chat_template_kwargs` are words for the model's template;
        one that it doesn't read is an error. With `draft`, what is known already (an earlier answer, the conversation,
        `hint`: text that the answer may repeat) is only checked by the model: the same answer in fewer steps.
        `begin` is what the answer begins with: the model goes on from there, and the answer's text has it.
        Requests with the same `group` (from `new_group()`)
        are shown as one.

        :raises RequestError: nothing was asked.
        :raises EngineClosedError: the engine was closed.
        """
        model = self._loaded()
        messages = as_messages(prompt, images, system)
        refuse_endless(messages, model.name, model.context)
        asked = (sampling or SamplingParams()).with_defaults(self._sampling)
        messages, chosen = with_ocr_defaults(messages, asked, model.defaults, model.ocr)
        loop = self._loop
        wants = Wants(
            chosen,
            group,
            stop_loops=model.ocr is not None,
            draft=draft,
            hint=hint,
            begin=begin,
            pictures=any(isinstance(part, ImagePart) for message in messages for part in message.parts),
        )
        use = template_use(model, chosen, tools, chat_template_kwargs or {}, begin)
        request = Request(wants, preparation(model, messages, use, self._image_limits, self._pixel_budget))
        loop.submit(request)
        return RequestHandle(request, self._loop.wake, lambda: loop.alive)

    def _loaded(self) -> LoadedModel:
        model = self._loop.model
        if model is None:
            raise EngineClosedError("the engine was closed; load a new one.")
        return model

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return str(self._loaded().tokenizer.decode(token_ids, skip_special_tokens=False))

    def token_ends(self, token_ids: Sequence[int]) -> list[int]:
        texts = (self.decode(token_ids[: count + 1]) for count in range(len(token_ids)))
        return [len(text.rstrip("\ufffd")) for text in texts]

    token_ends.__doc__ = Front.token_ends.__doc__

    def parse_tools(self, result: Generation, tools: Tools = None) -> TakenApart:
        """An answer's text and tool calls (`.text`, `.calls`, `.note`), in the model's own format."""
        model = self._loaded()
        said = result.token_ids[result.usage.reasoning_tokens :]
        return model.tool_parser.parse(said, model.end_tokens, result.text, tools)

    @property
    def tool_parser(self) -> ToolParser:
        """The parser of the model's own format of tool calls."""
        return self._loaded().tool_parser

    def stats(self) -> EngineStats:
        return self._loop.stats()

    @property
    def capabilities(self) -> Capabilities:
        """What the loaded model may do, and why not.

        :raises EngineClosedError: the engine was closed.
        """
        model, runner = self._loaded(), self._loop.runner
        if runner is None:  # closed meanwhile
            raise EngineClosedError("the engine was closed; load a new one.")
        return capabilities_of(model, runner)

    def forget_proofs(self) -> None:
        """Let the next load of this model show anew what it may do."""
        from ..models import switched

        model = self._loaded()
        model.remembered.forget()
        switched.switch_on(model)

    def requests(self) -> list[Lane]:
        """Requests that aren't finished, in order of arrival."""
        return lanes_of(self._loop.requests())

    def recent(self) -> list[Finished]:
        """The last dozen that finished, newest first, and where their prompts came from."""
        return [finished for _, finished in self._loop.recent][::-1]

    def forget(self) -> None:
        """Empty the prefix cache's RAM tier. What is on disk stays (`%omlx cache clear` removes it)."""
        self._loop.forget()

    def close(self) -> None:
        """End running requests as cancelled, end the thread and free the model. Twice is harmless."""
        self._loop.close()

    def __reduce__(self) -> NoReturn:
        raise ProcessError("an engine can't be pickled, it lives in this process; load one in the other process.")

    def __repr__(self) -> str:
        return f"<Engine {self.name} ({self.stats().state})>"


def _close_at_exit() -> None:
    for loop in list(_LOOPS):
        loop.close()


atexit.register(_close_at_exit)
