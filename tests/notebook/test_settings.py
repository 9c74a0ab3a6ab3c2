"""Settings: each has a range and a unit, and is checked wherever it is set; a wrong one is a sentence."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from omlx_jupyter.images.limits import Limits, raising
from omlx_jupyter.notebook.settings import config, traits
from omlx_jupyter.notebook.settings.config import Omlx
from omlx_jupyter.notebook.work import session

from ..conftest import draw_text

TRAITS = Omlx.class_traits(config=True)
NUMBERS = {name: trait for name, trait in TRAITS.items() if isinstance(trait, traits.Number)}


def wrong_values(trait: Any) -> list[Any]:
    """Values of every kind that don't fit."""
    if isinstance(trait, traits.Number):
        least = min([trait.low, *trait.special])
        fraction = [trait.low + 0.5] if trait.whole else []
        bounds = [least - 1, trait.high * 2, trait.high + 1]
        return [*bounds, *fraction, float("nan"), float("inf"), "x", "", None, [1], True, 1j, 10**400]
    if isinstance(trait, traits.Switch):
        return ["x", "maybe", 1, 0, 2, None, [True]]
    wrong = [1, None, b"x", ["a"], "a\nb", "\x1b[2J", "a\x00b", "x" * 5000]
    wrong += ["On", "maybe", "on,off"] if trait.among else []
    return [*wrong, *(["a b", "f(1)"] if trait.names else []), *([__file__] if trait.folder else [])]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings yet; config.toml would be in the folder that comes back."""
    monkeypatch.setattr(Omlx, "_instance", None)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path)
    for name in TRAITS:
        monkeypatch.delenv(f"OMLX_{name.upper()}", raising=False)
    return tmp_path


def sentence(text: str) -> None:
    assert "\n" not in text
    assert len(text) < 400
    assert "; set it to " in text
    assert not any(char in text for char in "\x1b\x00")


def test_every_setting_has_a_kind_a_range_and_a_unit() -> None:
    for name, trait in TRAITS.items():
        assert isinstance(trait, traits.Number | traits.Switch | traits.Words), name
        assert trait.help
        assert trait.fits(trait.default_value) == trait.default_value
    assert {n.unit for n in NUMBERS.values()} >= {"tokens", "MiB", "megapixels", "pixels", "seconds"}
    assert "from 1 to 10,000,000 tokens, or 0 for the model's own default" in TRAITS["max_tokens"].help


@pytest.mark.parametrize("name", TRAITS)
def test_what_does_not_fit_is_refused_everywhere(name: str, fresh: Path, monkeypatch: Any) -> None:
    trait = TRAITS[name]
    for value in wrong_values(trait):
        with pytest.raises(UsageError) as told:
            setattr(Omlx(), name, value)
        sentence(str(told.value))
        assert f"Omlx.{name} is " in str(told.value)
        text = value if isinstance(value, str) else repr(value)
        if "\x00" in text or (trait.read(text) is not text and trait.fits(trait.read(text)) is not None):
            continue  # the environment holds texts: '1' is True there
        if isinstance(trait, traits.Words) and not isinstance(value, str):
            continue
        monkeypatch.setenv(f"OMLX_{name.upper()}", text)
        with pytest.raises(UsageError) as told:
            config.settings()
        sentence(str(told.value))
        assert str(told.value).startswith(f"OMLX_{name.upper()} is ")
        assert not Omlx.initialized()  # the next %load_ext looks again
        monkeypatch.delenv(f"OMLX_{name.upper()}")


@pytest.mark.parametrize(
    "line",
    [
        *('max_tokens = "ten"', "max_tokens = 2.5", "temperature = nan", "fetch_timeout_s = 0", "max_image_mib = true"),
        *("model = 5", 'trust_code = "yes"', "cache_ram_mib = -2", "pixel_budget = [1]", "model = 1979-05-27"),
    ],
)
def test_the_file_is_checked(line: str, fresh: Path) -> None:
    (fresh / "config.toml").write_text(line, encoding="utf-8")
    with pytest.raises(UsageError) as told:
        config.settings()
    sentence(str(told.value))
    assert str(fresh / "config.toml") in str(told.value)
    assert not Omlx.initialized()


@pytest.mark.parametrize("content", [b"x = ", b"\xff\xfe", b"a" * 10, b"modle = 'x'", b"x = " + b"[" * 5000])
def test_a_file_that_is_no_toml_or_names_no_setting(content: bytes, fresh: Path) -> None:
    (fresh / "config.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"correct or remove it|known settings: "):
        config.settings()


def test_what_fits_is_set(fresh: Path, monkeypatch: Any) -> None:
    (fresh / "config.toml").write_text("max_tokens = 7\ntemperature = 0\nfetch_timeout_s = 3", encoding="utf-8")
    monkeypatch.setenv("OMLX_MAX_TOKENS", " 8 ")
    monkeypatch.setenv("OMLX_TRUST_CODE", "no")
    monkeypatch.setenv("OMLX_ALLOWED_TOOLS", "zoom, search")
    made = config.settings()
    assert (made.max_tokens, made.temperature, made.fetch_timeout_s, made.trust_code) == (8, 0.0, 3.0, False)
    assert made.allowed_tools == "zoom, search"


def test_config_magic_tells_one_sentence(shell: InteractiveShell, caplog: Any, capsys: Any) -> None:
    before = config.settings().max_tokens
    with caplog.at_level(logging.ERROR):
        shell.run_cell("%config Omlx.max_tokens = 2.5")
    told = caplog.text + "".join(capsys.readouterr())
    assert "Omlx.max_tokens is 2.5; set it to a whole number from 1 to 10,000,000 tokens" in told
    assert "Traceback" not in told
    assert config.settings().max_tokens == before


LIMITS = {  # setting -> field of the pictures' limits, and how many of its units one of the setting's is
    "max_image_mib": ("max_bytes", 2**20),
    "max_image_megapixels": ("max_pixels", 10**6),
    "max_pdf_mib": ("max_pdf_bytes", 2**20),
    "fetch_timeout_s": ("timeout_s", 1),
    **{name: (name, 1) for name in ("max_redirects", "max_frames", "max_pages", "decode_timeout_s")},
    **{name: (name, True) for name in ("allow_private_urls", "use_proxy")},
}


def test_every_limit_of_pictures_is_a_setting() -> None:
    names = {field.name for field in dataclasses.fields(Limits)}
    assert names == {field for field, _ in LIMITS.values()} | {"pixel_budget"}  # which the engine takes by itself
    assert Omlx().image_limits() == Limits()


@pytest.mark.parametrize("name", LIMITS)
def test_config_reaches_the_engine(name: str, shell: InteractiveShell) -> None:
    before = getattr(config.settings(), name)
    field, unit = LIMITS[name]
    value = 3 if isinstance(TRAITS[name], traits.Number) else True
    session.unload()
    try:
        shell.run_cell(f"%config Omlx.{name} = {value}")
        assert getattr(session.engine()._image_limits, field) == value * unit
        assert getattr(config.settings().image_limits(), field) == value * unit
    finally:
        setattr(config.settings(), name, before)
        session.unload()


@pytest.mark.parametrize("name", LIMITS)
def test_an_error_names_the_setting_of_a_limit(name: str) -> None:
    assert f"Omlx.{name} " in raising(LIMITS[name][0])


def test_a_limit_set_by_config_holds(shell: InteractiveShell, capsys: Any) -> None:
    pictures = [draw_text(word) for word in ("One", "Two")]
    pictures[0].save("two.pdf", save_all=True, append_images=pictures[1:])
    pictures[0].save("two.gif", save_all=True, append_images=pictures[1:], duration=10)
    before = config.settings().max_pages, config.settings().max_frames
    try:
        shell.run_cell("%config Omlx.max_pages = 1\n%config Omlx.max_frames = 1")
        shell.run_cell("%ocr two.pdf")
        assert "over the limit of 1" in capsys.readouterr().err
        shell.run_cell("%ocr --all-frames two.gif")
        assert "more than 1 frames" in capsys.readouterr().err
    finally:
        config.settings().max_pages, config.settings().max_frames = before


def test_the_page_of_settings_is_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{name}` | `OMLX_{name.upper()}` | `{trait.default_value!r}` | {trait.help} |"
        for name, trait in sorted(TRAITS.items())
    ]


SCRIPT = """
from IPython.core.interactiveshell import InteractiveShell
import platformdirs
{before}
shell = InteractiveShell.instance()
done = shell.run_cell("%load_ext omlx_jupyter")
shell.run_cell("%omlx settings")
shell.run_cell("%omlx doctor")
"""


def load(before: str, tmp_path: Path, **changes: str | None) -> str:
    environment = {n: v for n, v in {**os.environ, "IPYTHONDIR": str(tmp_path), **changes}.items() if v is not None}
    run = [sys.executable, "-c", SCRIPT.format(before=before)]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_no_home_folder_is_no_fault(tmp_path: Path) -> None:
    raising = "def gone(*_, **__): raise RuntimeError('Could not determine home directory.')\n"
    raising += "platformdirs.user_config_path = platformdirs.user_cache_path = gone"
    for text in (load(raising, tmp_path), load("", tmp_path, HOME=None), load("", tmp_path, HOME="/nonexistent/x")):
        assert "Traceback" not in text
        assert "OMLX_MAX_TOKENS" in text  # `%omlx settings` answered
        assert "settings changed: none" in text


def test_a_wrong_setting_is_one_line_at_load_ext(tmp_path: Path) -> None:
    text = load("", tmp_path, OMLX_MAX_TOKENS="many")
    told = next(line for line in text.splitlines() if "OMLX_MAX_TOKENS" in line)
    assert told.startswith("UsageError: OMLX_MAX_TOKENS is 'many'; set it to a whole number")
    assert "Traceback" not in text
