"""A model's name -> a local folder: the embedded model, a path, or a hub id."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ..errors import ModelError

EMBEDDED = "tiny-ocr"
PATTERNS = ("*.json", "*.jsonl", "*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja")
_CODE = "*.py"


def embedded_path() -> Path:
    """The folder of the embedded model."""
    return Path(str(files("omlx_jupyter") / "assets" / EMBEDDED))


def resolve_model(name: str | Path | None, trust_code: bool = False) -> Path:
    """Find a model, downloading it from the hub where its name is a hub id; with `trust_code`, its code too.

    Downloads use huggingface_hub: its cache, its progress bar, its offline switch (HF_HUB_OFFLINE). All files of a
    download are of one commit, whose hash is the folder's name.

    :raises ModelError: one sentence for a missing, gated or unreachable model.
    """
    if name is None or str(name) == EMBEDDED:
        return embedded_path()
    text = str(name)
    try:
        path = Path(name).expanduser()
        if path.exists():
            return path
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, no such user
        raise ModelError(
            f"{text[:100]} is no folder's name ({error}); name a folder or a hub id like org/name."
        ) from None
    if text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise ModelError(f"there is no model folder {text}; name a folder or a hub id like org/name.")
    return _download(text, [*PATTERNS, *([_CODE] if trust_code else [])])


def code_of(repo_id: str) -> Path:
    """The Python files of a repository that a trusted checkpoint names, all of one commit.

    :raises ModelError: as `resolve_model`.
    """
    return _download(repo_id, [_CODE])


def _download(repo_id: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=patterns))
    except GatedRepoError:
        raise ModelError(
            f"{repo_id} is gated; accept its terms on its hub page and run `hf auth login` once."
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no model {repo_id}, or it is private; check the name or log in.") from None
    except HFValidationError:
        raise ModelError(f"{repo_id!r} is not a hub id; it looks like org/name.") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise ModelError(
            f"{repo_id} is not in the local hub cache and the hub can't be reached ({reason}); "
            "go online once or name a local folder."
        ) from None


def cached_models() -> list[str]:
    """Hub ids of the models in the local hub cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model")
    except CacheNotFound:
        return []
