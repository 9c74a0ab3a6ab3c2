"""Settings: `%config Omlx.<name>`, else `OMLX_<NAME>`, else IPython's configuration, else config.toml."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import platformdirs
from IPython.core.error import UsageError
from traitlets import Bool, Float, Int, Unicode
from traitlets.config import SingletonConfigurable

from ..images.decoded import Limits as ImageLimits


class Omlx(SingletonConfigurable):
    """Vision-language models in this notebook. `%config Omlx.model = "org/name"` sets a value."""

    model = Unicode("", help="Model loaded at first use: a folder or a hub id. Empty: the embedded tiny-ocr.").tag(
        config=True
    )
    max_tokens = Int(0, help="Longest answer in tokens. 0: the model's own default.").tag(config=True)
    temperature = Float(-1.0, help="Sampling temperature; 0 is greedy. -1: the model's own default.").tag(config=True)
    allow_private_urls = Bool(False, help="Fetch pictures from private and loopback addresses.").tag(config=True)
    max_image_mib = Int(64, help="Largest picture file or download, in MiB.").tag(config=True)
    max_image_megapixels = Int(120, help="Largest picture before decoding, in megapixels.").tag(config=True)
    pixel_budget = Int(4_000_000, help="Pictures with more pixels are shrunk before the model sees them.").tag(
        config=True
    )
    read_by_lines = Bool(
        True, help="%ocr cuts pages into lines where the model's checkpoint has a recipe for that; --whole doesn't."
    ).tag(config=True)
    fetch_timeout_s = Float(20.0, help="Longest time for one download, in seconds.").tag(config=True)
    trust_code = Bool(False, help="Run code that a checkpoint brings along.").tag(config=True)

    cache_ram_mib = Int(-1, help="RAM for the prefix cache, in MiB. 0: off. -1: a quarter of the free memory.").tag(
        config=True
    )
    cache_ssd_mib = Int(-1, help="Disk for the prefix cache of all kernels, in MiB. 0: RAM only. -1: a tenth.").tag(
        config=True
    )
    cache_folder = Unicode("", help="Folder of the prefix cache. Empty: the user's cache folder.").tag(config=True)

    def cache_settings(self) -> Any:
        """The prefix cache's budgets and folder, as `Engine.load` takes them."""
        from ..cache.defaults import default_settings

        ram, ssd = (None if mib < 0 else mib * 2**20 for mib in (self.cache_ram_mib, self.cache_ssd_mib))
        return default_settings(ram, ssd, self.cache_folder or None)

    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            max_bytes=self.max_image_mib * 2**20,
            max_pixels=self.max_image_megapixels * 1_000_000,
            timeout_s=self.fetch_timeout_s,
            allow_private_urls=self.allow_private_urls,
        )


def config_file() -> Path:
    """`config.toml` in the user's configuration folder: lines like `model = "org/name"`."""
    return platformdirs.user_config_path("omlx_jupyter", appauthor=False) / "config.toml"


def _outside() -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.toml and the environment set.

    :raises UsageError: a file that is no TOML, an unknown name or a value of the wrong kind.
    """
    traits = Omlx.class_traits(config=True)
    file: dict[str, Any] = {}
    path = config_file()
    if path.exists():
        try:
            file = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} can't be read ({error}); correct or remove it.") from None
        unknown = set(file) - set(traits)
        if unknown:
            raise UsageError(f"{path} sets {', '.join(sorted(unknown))}; known settings: {', '.join(traits)}.")
    environment = {}
    for name, trait in traits.items():
        value = os.environ.get(f"OMLX_{name.upper()}")
        if value is not None:
            try:
                environment[name] = trait.from_string(value)
            except ValueError:
                raise UsageError(f"OMLX_{name.upper()} is {value!r}; {trait.help}") from None
    return file, environment


def settings(shell: Any = None) -> Omlx:
    """The kernel's settings; registered with the shell, so that `%config` finds them."""
    if not Omlx.initialized():
        file, environment = _outside()
        made = Omlx.instance(parent=shell) if shell is not None else Omlx.instance()
        configured = getattr(made.config, "Omlx", {}) if shell is not None else {}
        for name, value in {**{n: v for n, v in file.items() if n not in configured}, **environment}.items():
            setattr(made, name, value)
    made = Omlx.instance()
    if shell is not None and made not in shell.configurables:
        shell.configurables.append(made)
    return made


def table_of_settings() -> str:
    """Every setting as a Markdown table, with its value now."""
    lines = ["| `%config Omlx.` | environment | now | what it does |", "|---|---|---|---|"]
    for name, trait in sorted(Omlx.class_traits(config=True).items()):
        lines.append(f"| `{name}` | `OMLX_{name.upper()}` | {getattr(settings(), name)!r} | {trait.help} |")
    return "\n".join(lines)
