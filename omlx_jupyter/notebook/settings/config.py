"""Settings: `%config Omlx.<name>`, else `OMLX_<NAME>`, else IPython's configuration, else config.toml."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from traitlets.config import SingletonConfigurable

from ..plain import name as on_one_line
from .traits import Number, Switch, Words

if TYPE_CHECKING:
    from ...images.limits import Limits as ImageLimits
    from ...types import SamplingParams
    from ..shell import Shell


class Omlx(SingletonConfigurable):
    """Vision-language models in this notebook. `%config Omlx.model = "org/name"` sets a value."""

    origins: dict[str, str]  # of what isn't at its default: the place that set it

    model = Words("Model loaded at first use: a folder or a hub id. Empty: the embedded tiny-ocr.")
    max_tokens = Number(0, 1, 10_000_000, "tokens", "Longest answer.", {0: "the model's own default"})
    temperature = Number(
        -1.0, 0, 10, "", "Sampling temperature; 0 is greedy.", {-1: "the model's own default"}, whole=False
    )
    think = Words(
        "Whether models that think before they answer do so: 'on' or 'off'. Empty: as the model's template has it.",
        among=("on", "off"),
    )
    think_budget = Number(
        -1,
        0,
        10_000_000,
        "tokens",
        "Tokens after which a thought is ended and the answer begins; models that mark no thoughts don't heed it.",
        {-1: "no such limit"},
    )
    save_thoughts = Switch(True, "Thoughts are saved in the notebook, folded, and in exported chats.")
    save_pictures = Words(
        "Pictures of a question that are saved with its answer. Empty: figures and other objects of the notebook as "
        "they were sent, of files and addresses thumbnails.",
        among=("thumbnails", "none"),
    )
    server = Words(
        "Server that the kernel uses from its first request on: a name or an address. Empty: its own engine."
    )
    server_key_env = Words(
        "Variable of the environment that holds that server's key, or keyring:SERVICE[:USER]; the key itself is never "
        "set."
    )
    drafter = Words("Drafter model of the model that is set: a folder or a hub id of a DFlash drafter. Empty: none.")
    layout_model = Words("Layout detector for --layout: a folder or a hub id of a PP-DocLayoutV3. Empty: white space.")
    drafts = Switch(True, "What an answer may repeat is only checked by the model: the same answer in fewer steps.")
    allow_private_urls = Switch(False, "Fetch pictures from private and loopback addresses.")
    max_image_mib = Number(64, 1, 65_536, "MiB", "Largest picture file or download.")
    max_image_megapixels = Number(120, 1, 100_000, "megapixels", "Largest picture before decoding.")
    pixel_budget = Number(
        4_000_000, 1_000, 1_000_000_000, "pixels", "Pictures with more are shrunk before the model sees them."
    )
    read_by_lines = Switch(
        True, "%ocr cuts pages into lines where the model's checkpoint has a recipe for that; --whole doesn't."
    )
    fetch_timeout_s = Number(20.0, 0.1, 86_400, "seconds", "Longest time for one download.", whole=False)
    max_redirects = Number(5, 0, 20, "redirects", "Hops that one download may take.")
    use_proxy = Switch(False, "Download through the environment's proxy, which then connects where it likes.")
    max_frames = Number(500, 1, 1_000_000, "frames", "Most frames of one animated picture or TIFF.")
    max_pages = Number(2000, 1, 1_000_000, "pages", "Most pages of one PDF that are read at once.")
    max_pdf_mib = Number(1024, 1, 1_048_576, "MiB", "Largest PDF file.")
    decode_timeout_s = Number(60.0, 0.1, 86_400, "seconds", "Longest time to decode one file.", whole=False)
    trust_code = Switch(False, "Run code that a checkpoint brings along.")
    allowed_tools = Words("Functions of `--tools` that run without asking. Empty: each call asks.", names=True)

    memory_mib = Number(
        0,
        64,
        100_000_000,
        "MiB",
        "Memory for the model, its requests and the cache in RAM.",
        {0: "what all kernels share: three quarters of the machine's, or 90 % of what the GPU recommends"},
    )
    cache_ram_mib = Number(
        -1, 0, 100_000_000, "MiB", "RAM for the prefix cache; 0: off.", {-1: "a quarter of the free memory"}
    )
    cache_ssd_mib = Number(
        -1,
        0,
        1_000_000_000,
        "MiB",
        "Disk for the prefix cache of all kernels; 0: RAM only.",
        {-1: "a tenth of the free disk"},
    )
    cache_folder = Words("Folder of the prefix cache. Empty: the user's cache folder.", folder=True)

    def reads_whole(self, asked: bool) -> bool:
        """Whether pages are handed over as they are: `asked` for, or set."""
        return asked or not self.read_by_lines

    def filled(self, sampling: SamplingParams) -> SamplingParams:
        """What is set, where a request's own words leave it open."""
        temperature, most = sampling.temperature, sampling.max_tokens
        if temperature is None and self.temperature >= 0:
            temperature = self.temperature
        return replace(sampling, temperature=temperature, max_tokens=most or self.max_tokens or None)

    def with_thinking(self, sampling: SamplingParams, thinks: bool) -> SamplingParams:
        """What is set about thoughts, where the loaded model `thinks`; a request's own words win."""
        if not thinks:
            return sampling
        set_here = {"on": True, "off": False}.get(self.think)
        think = set_here if sampling.think is None else sampling.think
        budget = sampling.think_budget
        if budget is None and self.think_budget >= 0 and think is not False:
            budget = self.think_budget
        return replace(sampling, think=think, think_budget=budget)

    def cache_settings(self) -> Any:
        """The prefix cache's budgets and folder, as `Engine.load` takes them."""
        from ...cache.defaults import default_settings

        ram, ssd = (None if mib < 0 else mib * 2**20 for mib in (self.cache_ram_mib, self.cache_ssd_mib))
        place = cache_place(self.cache_folder)
        return default_settings(ram, ssd if place is not None else 0, place or ".")

    def image_limits(self) -> ImageLimits:
        from ...images.limits import Limits as ImageLimits

        return ImageLimits(
            max_bytes=self.max_image_mib * 2**20,
            max_pixels=self.max_image_megapixels * 1_000_000,
            timeout_s=self.fetch_timeout_s,
            allow_private_urls=self.allow_private_urls,
            max_redirects=self.max_redirects,
            use_proxy=self.use_proxy,
            max_frames=self.max_frames,
            max_pages=self.max_pages,
            max_pdf_bytes=self.max_pdf_mib * 2**20,
            decode_timeout_s=self.decode_timeout_s,
        )


def config_file() -> Path | None:
    """`config.toml` in the user's configuration folder: lines like `model = "org/name"`. None: there is no such folder
    for this user (no home folder)."""
    import platformdirs

    try:
        path = platformdirs.user_config_path("omlx_jupyter", appauthor=False) / "config.toml"
        return path if path.is_absolute() else None
    except (OSError, RuntimeError, KeyError, ValueError):
        return None


def cache_place(setting: str) -> Path | None:
    """The prefix cache's folder. None: there is no home folder to have it in, and it stays in RAM."""
    from ...cache.defaults import default_folder

    try:
        place = Path(setting).expanduser() if setting else default_folder()
        return place if place.is_absolute() or setting else None
    except (OSError, RuntimeError, KeyError, ValueError):
        return None


def cache_folder() -> Path:
    """:raises UsageError: there is no home folder for it."""
    place = cache_place(settings().cache_folder)
    if place is None:
        raise UsageError("there is no home folder for the prefix cache, which stays in RAM; set Omlx.cache_folder.")
    return place


def _outside() -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.toml and the environment set.

    :raises UsageError: a file that is no TOML, an unknown name or a value that doesn't fit.
    """
    traits = Omlx.class_traits(config=True)
    path = config_file()
    file = read_toml(path)
    unknown = set(file) - set(traits)
    if unknown:
        names = on_one_line(", ".join(sorted(unknown)))
        raise UsageError(f"{path} sets {names}; known settings: {', '.join(traits)}.")
    environment = {name: os.environ[variable] for name in traits if (variable := _variable(name)) in os.environ}
    return (
        {name: traits[name].checked(value, f"{name} in {path}") for name, value in file.items()},
        {name: traits[name].parsed(text, _variable(name)) for name, text in environment.items()},
    )


def _variable(name: str) -> str:
    return f"OMLX_{name.upper()}"


def read_toml(path: Path | None) -> dict[str, Any]:
    """Empty where there is none.

    :raises UsageError: it is there and can't be read.
    """
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        import tomllib  # not where there is no file, as is usual

        return tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read ({on_one_line(error)}); correct or remove it.") from None


def settings(shell: Shell | None = None) -> Omlx:
    """The kernel's settings; registered with the shell, so that `%config` finds them.

    :raises UsageError: a value from outside doesn't fit; nothing is set then.
    """
    made: Omlx
    if not Omlx.initialized():
        file, environment = _outside()
        made = Omlx.instance(parent=shell) if shell is not None else Omlx.instance()
        configured = getattr(made.config, "Omlx", {}) if shell is not None else {}
        made.origins = dict.fromkeys(configured, "IPython's configuration")
        for values, place in ((file, "config.toml"), (environment, "environment")):
            for name, value in values.items():
                if place == "environment" or name not in configured:
                    setattr(made, name, value)
                    made.origins[name] = place
        made.observe(
            lambda change: made.origins.__setitem__(change["name"], "%config"), list(Omlx.class_traits(config=True))
        )
    made = Omlx.instance()
    if shell is not None and made not in shell.configurables:
        shell.configurables.append(made)
    return made


def table_of_settings() -> str:
    """Every setting as a Markdown table, with its value now."""
    made = settings()
    lines = ["| `%config Omlx.` | environment | now | from | what it does |", "|---|---|---|---|---|"]
    for name, trait in sorted(Omlx.class_traits(config=True).items()):
        now, origin = repr(getattr(made, name)), made.origins.get(name, "default")
        lines.append(f"| `{name}` | `OMLX_{name.upper()}` | {now} | {origin} | {trait.help} |")
    return "\n".join(lines)
