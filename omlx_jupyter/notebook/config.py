"""Settings, for `%config Omlx.<name>`."""

from __future__ import annotations

from typing import Any

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


def settings(shell: Any = None) -> Omlx:
    """The kernel's settings; registered with the shell, so that `%config` finds them."""
    made = Omlx.instance(parent=shell) if shell is not None else Omlx.instance()
    if shell is not None and made not in shell.configurables:
        shell.configurables.append(made)
    return made
