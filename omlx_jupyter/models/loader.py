"""Checkpoint folder -> LoadedModel, through the real `mlx_vlm.load`. Runs on the engine thread."""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, OmlxError, RequestError
from ..types import SamplingParams
from .blas import preload_openblas
from .detect import Checkpoint, inspect_checkpoint
from .families import OCR_STOPS, TEXT_ONLY, Family, family_of, ocr_profile_of
from .hub import resolve_model
from .tokenizer import ChatTokenizer
from .trust import Gate, gate
from .vision import VisionProcessor

if TYPE_CHECKING:
    from .loaded import LoadedModel
    from .shapes import Processor, VisionModel
    from .weights import Weighted
    from .whole import WholeProcessor

_log = logging.getLogger(__name__)
_READ_AT_ONCE = 64 * 2**20


def load_model(
    name: str | Path | None,
    trust_code: bool = False,
    on_progress: Callable[[float], None] | None = None,
    *,
    drafter: str | Path | None = None,
    prove_s: float = float("inf"),
) -> LoadedModel:
    """Load a model by folder, hub id or None for the embedded one; `on_progress` gets the share of its weights
    that is in memory. A `drafter` that is there but can't serve is left out, which its `warnings` say. A proof of what
    the model may do that would take longer than `prove_s` is left for later.

    :raises ModelError: one sentence with the mend.
    """
    path = resolve_model(name, trust_code)
    beside = resolve_model(drafter, trust_code) if drafter is not None else None
    checkpoint = inspect_checkpoint(path, trust_code)
    preload_openblas()
    _import_transformers()
    from . import switched
    from .patches import as_products
    from .proof import shared_if_shown
    from .text_proof import text_if_shown

    shown = path.name if name is None else str(name)
    try:
        model = _load_gated(shown, checkpoint, trust_code)
        read_weights(model.model, on_progress or (lambda _: None))
    except OmlxError:
        raise
    except Exception as error:  # what the libraries made of the files isn't what they make of whole ones
        told = f"{type(error).__name__}: {error}"
        raise ModelError(f"{shown} can't be loaded ({told}); a file of it is missing or damaged.") from error
    as_products(model.model)
    model = switched.apply(text_if_shown(shared_if_shown(model, prove_s), prove_s))
    if beside is not None:
        _add_drafter(model, str(drafter), beside, trust_code)
    return model


def _add_drafter(model: LoadedModel, name: str, path: Path, trust_code: bool) -> None:
    from .drafter import load_drafter

    try:
        model.drafter = load_drafter(name, path, model, trust_code)
    except ModelError as error:
        model.drafter_why = f"{str(error).removesuffix('.')}; it goes without one"
        model.warnings = (*model.warnings, f"{model.drafter_why}.")
        _log.warning(model.drafter_why)


def _load_gated(name: str, checkpoint: Checkpoint, trust_code: bool) -> LoadedModel:
    with gate(checkpoint.path, trust_code) as opened:
        try:
            model = _load(name, checkpoint, opened)
        except ModelError as error:
            why = opened.why()
            raise ModelError(f"{str(error).removesuffix('.')}: {why}.") if why else error from error.__cause__
        for line in opened.notice():
            _log.warning(line)
            model.warnings = (*model.warnings, line)
    weakref.finalize(model, opened.close)  # a tokenizer may come back to its folder
    return model


def _load(name: str, checkpoint: Checkpoint, opened: Gate) -> LoadedModel:
    """The model with its weights still on disk: MLX reads an array when it is evaluated."""
    if not checkpoint.is_vlm:
        why = () if not checkpoint.vision_config else (NO_VISION_WEIGHTS.format(name),)
        for line in why:
            _log.warning(line)
        return _load_text(name, checkpoint, opened, why)
    try:
        return _load_vlm(name, checkpoint, opened)
    except _CannotLoad as error:
        return _fall_back(name, checkpoint, opened, error)


def read_weights(model: Weighted, on_progress: Callable[[float], None]) -> None:
    """Read a lazily loaded model's weights, about 64 MiB at a time."""
    import mlx.core as mx

    from .weights import weights_of

    arrays = weights_of(model)
    total, done, read, some = sum(a.nbytes for a in arrays), 0, 0, []
    for array in arrays:
        some.append(array)
        done += array.nbytes
        if done - read >= _READ_AT_ONCE or done == total:
            mx.eval(some)
            read, some = done, []
            on_progress(done / max(1, total))


LOUD = {  # processors that print at every load
    "deepseekocr": "processing_deepseekocr",
    "deepseekocr_2": "processing_deepseekocr",
    "deepseek_vl_v2": "processing_deepsek_vl_v2",
    "unlimited_ocr": "processing_unlimitedocr",
}


class _CannotLoad(ModelError):
    """mlx-vlm can't load the checkpoint; mlx-lm may."""


NO_VISION_WEIGHTS = "{} names a vision tower, but its weights hold none, so pictures are off"


def _fall_back(name: str, checkpoint: Checkpoint, opened: Gate, error: _CannotLoad) -> LoadedModel:
    """A vision-language model that only mlx-lm can load: text works, and the warning says that pictures don't."""
    warning = f"{name} was loaded as a text model and pictures are off ({error})"
    try:
        model = _load_text(name, checkpoint, opened, (warning,))
    except ModelError:
        raise ModelError(str(error)) from error
    _log.warning(warning)
    return model


def _load_vlm(name: str, checkpoint: Checkpoint, opened: Gate) -> LoadedModel:
    import mlx_vlm

    from .loaded import LoadedModel

    family = family_of(checkpoint.model_type)
    if checkpoint.model_type in LOUD:
        _silence(f"mlx_vlm.models.{checkpoint.model_type}.{LOUD[checkpoint.model_type]}")
    try:
        model, processor = mlx_vlm.load(str(opened.view), lazy=True, **opened.arguments)
    except Exception as error:
        raise _CannotLoad(f"{name} can't be loaded ({type(error).__name__}: {error}).") from error
    inner = getattr(processor, "tokenizer", processor)
    tokenizer = ChatTokenizer(inner, processor, family)
    if not (hasattr(processor, "image_processor") or hasattr(processor, "image_transform")):
        raise ModelError(f"{name} came with no image processor; its preprocessor_config.json is missing or damaged.")
    return LoadedModel(
        name=name,
        checkpoint=checkpoint,
        model=model,
        language_model=model.language_model,
        tokenizer=tokenizer,
        vision=_vision(model, processor, tokenizer, family, checkpoint),
        family=family,
        ocr=ocr_profile_of(checkpoint.model_type),
        defaults=generation_defaults(checkpoint),
        end_tokens=end_tokens(checkpoint, tokenizer),
    )


def _vision(
    model: VisionModel, processor: Processor, tokenizer: ChatTokenizer, family: Family, checkpoint: Checkpoint
) -> VisionProcessor | WholeProcessor:
    if not family.batchable or family.placeholder is None:
        from .whole import WholeProcessor, mended, why_not

        reason = why_not(model)
        if reason:
            raise _CannotLoad(f"{checkpoint.model_type} {reason}, which the engine can't drive.")
        return WholeProcessor(mended(processor), tokenizer, model.config)
    token = tokenizer.token_id(family.placeholder)
    if token is not None and getattr(processor, "image_token_id", token) != token:
        processor.image_token_id = token  # dots_ocr's processor hard-codes the published vocabulary's id
    return VisionProcessor(processor, family.placeholder, token, tiled=family.tower == "span")


def _import_transformers() -> None:
    """At its import it warns, below the first answer, that there is no PyTorch, which MLX doesn't need."""
    logger = logging.getLogger("transformers")

    def is_news(record: logging.LogRecord) -> bool:
        return "PyTorch was not found" not in record.getMessage()

    logger.addFilter(is_news)
    try:
        import transformers  # noqa: F401
    finally:
        logger.removeFilter(is_news)


def _silence(module: str) -> None:
    """Upstream's DeepSeek-like processors print five lines at every load."""
    import importlib

    vars(importlib.import_module(module))["print"] = lambda *_: None


def _load_text(name: str, checkpoint: Checkpoint, opened: Gate, warnings: tuple[str, ...]) -> LoadedModel:
    """Through mlx-lm: checkpoints without a vision tower, and those that mlx-vlm can't load."""
    import mlx_lm

    from .loaded import LoadedModel

    try:
        model, wrapper = mlx_lm.load(str(opened.view), opened.arguments, lazy=True, **opened.arguments)[:2]
    except Exception as error:
        raise ModelError(f"{name} can't be loaded ({type(error).__name__}: {error}).") from error
    inner = getattr(wrapper, "_tokenizer", wrapper)
    tokenizer = ChatTokenizer(inner, inner)
    return LoadedModel(
        name=name,
        checkpoint=checkpoint,
        model=model,
        language_model=model,
        tokenizer=tokenizer,
        vision=None,
        family=TEXT_ONLY,
        ocr=None,
        defaults=generation_defaults(checkpoint),
        end_tokens=end_tokens(checkpoint, tokenizer),
        warnings=warnings,
    )


def _generation_config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def generation_defaults(checkpoint: Checkpoint) -> SamplingParams:
    """Sampling fields that the checkpoint's generation_config.json sets."""
    config = _generation_config(checkpoint.path)
    names = ("temperature", "top_p", "top_k", "repetition_penalty")
    found = {n: config[n] for n in names if config.get(n) is not None}
    if config.get("do_sample") is False:
        found["temperature"] = 0
    try:
        return SamplingParams(**found)
    except RequestError as error:
        raise ModelError(f"{checkpoint.path / 'generation_config.json'}: {error}") from None


def end_tokens(checkpoint: Checkpoint, tokenizer: ChatTokenizer) -> frozenset[int]:
    """Tokens that end an answer: the config's, the generation config's and the tokenizer's."""
    text_config = checkpoint.config.get("text_config") or {}
    sources = (
        checkpoint.config.get("eos_token_id"),
        text_config.get("eos_token_id"),
        _generation_config(checkpoint.path).get("eos_token_id"),
        getattr(tokenizer.inner, "eos_token_id", None),
    )
    found: set[int] = set()
    for source in sources:
        found.update([source] if isinstance(source, int) else source or ())
    if ocr_profile_of(checkpoint.model_type) is not None:
        found.update(i for i in map(tokenizer.token_id, OCR_STOPS) if i is not None)
    return frozenset(found)
