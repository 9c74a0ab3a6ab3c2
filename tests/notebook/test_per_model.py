"""Settings kept per model: `%omlx set`, its file, and which of several places wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import platformdirs
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from omlx_jupyter import SamplingParams
from omlx_jupyter.notebook.settings import per_model
from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.notebook.work import run as running
from omlx_jupyter.notebook.work import session

from .test_cells import run
from .test_magics import complaint


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path / "config")
    return tmp_path / "config" / "models.toml"


def test_what_is_set_is_kept_and_taken_out_again(place: Path) -> None:
    assert per_model.change("org/name", {"temperature": "0.2", "think": "off", "alias": "q"}) == {
        "temperature": 0.2, "think": "off", "alias": "q",
    }  # fmt: skip
    assert per_model.of("org/name") == {"temperature": 0.2, "think": "off"}
    assert per_model.resolve("q") == "org/name"
    assert per_model.resolve("other") == "other"
    assert per_model.change("org/name", {"think": "", "alias": ""}) == {"temperature": 0.2}
    assert per_model.change("org/name", {"temperature": ""}) == {}
    assert place.read_text() == ""


def test_edits_by_hand_survive(place: Path) -> None:
    place.parent.mkdir()
    place.write_text('# mine\n["a/b"]   # the small one\ntop_p = 0.9 # as its card says\n')
    per_model.change("a/b", {"temperature": "0"})
    per_model.change("c d", {"max_tokens": "5"})
    text = place.read_text()
    assert text.startswith('# mine\n["a/b"]   # the small one\ntop_p = 0.9 # as its card says\ntemperature = 0')
    assert per_model.of("a/b") == {"top_p": 0.9, "temperature": 0.0}
    assert per_model.of("c d") == {"max_tokens": 5}
    assert [entry.name for entry in place.parent.iterdir()] == ["models.toml"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": "hot"}, "temperature is 'hot'; set it to a number from 0 to 10"),
        ({"max_tokens": "0"}, "max_tokens is 0; set it to a whole number from 1 to 10,000,000 tokens"),
        ({"think": "maybe"}, "set it to 'on', 'off' or ''"),
        ({"colour": "red"}, "colour is no setting of a model; there are temperature,"),
        ({"alias": "two words"}, "an alias is one word"),
        ({"alias": "taken"}, "taken is x/y already"),
        ({"alias": "x/y"}, "x/y is x/y already"),
        ({"alias": "tiny-ocr"}, "tiny-ocr is the name of a model"),
        ({"alias": "org/name"}, "org/name is the name of a model"),
        ({"alias": "a/b"}, "a/b is the name of a model, or a file here"),
    ],
)
def test_what_does_not_fit_changes_nothing(changes: dict[str, str], said: str, place: Path) -> None:
    per_model.change("x/y", {"alias": "taken"})
    before = place.read_text()
    with pytest.raises(UsageError, match=said):
        per_model.change("org/name", {"top_p": "0.5", **changes})
    assert place.read_text() == before


@pytest.mark.parametrize(
    "text", ["[", "x = 1\n", '["a"]\ntemperature = "x"\n', '["a"]\nthink = 3\n', '["a"]\nno = 1\n']
)
def test_a_damaged_file_is_one_sentence_and_stays_as_it_is(text: str, place: Path) -> None:
    place.parent.mkdir()
    place.write_text(text)
    for act in (lambda: per_model.of("a"), lambda: per_model.change("a", {"top_p": "0.5"})):
        with pytest.raises(UsageError, match=r"models\.toml") as told:
            act()
        assert "\n" not in str(told.value)
    assert place.read_text() == text


def test_which_place_wins(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    per_model.change(
        "m", {"temperature": "0.2", "top_p": "0.5", "max_tokens": "7", "think": "off", "think_budget": "9"}
    )
    config, cell = settings(), SamplingParams(top_p=0.9)
    monkeypatch.setattr(config, "max_tokens", 3)
    made = per_model.for_model(config, config.filled(cell), "m", thinks=True)
    assert (made.temperature, made.top_p, made.max_tokens, made.think, made.think_budget) == (0.2, 0.9, 3, False, None)
    monkeypatch.setattr(config, "think", "on")
    made = per_model.for_model(config, config.filled(cell), "m", thinks=True)
    assert (made.think, made.think_budget) == (True, 9)
    made = per_model.for_model(config, config.filled(cell), "m", thinks=False)
    assert (made.think, made.think_budget) == (None, None)
    assert per_model.for_model(config, cell, "other", thinks=False) == cell


def test_in_the_notebook(place: Path, shell: InteractiveShell, capsys: Any, monkeypatch: Any) -> None:
    run(shell, "%omlx load tiny-ocr")
    run(shell, "%omlx set tiny-ocr max_tokens=3 alias=t")
    assert "tiny-ocr: max_tokens = 3\ntiny-ocr: alias = t" in capsys.readouterr().out
    made = run(shell, "%%vlm --temperature 0\nWrite on about {img}")
    assert len(made.generation.token_ids) == 3
    assert (
        len(run(shell, "from omlx_jupyter import vlm\nvlm('Write on', img, temperature=0)").generation.token_ids) == 3
    )
    assert len(run(shell, "%%vlm --max-tokens 4\nWrite on about {img}").generation.token_ids) <= 4
    engine = session.current_engine()
    run(shell, "%omlx load t")
    assert session.current_engine() is engine
    capsys.readouterr()
    run(shell, "%config Omlx.temperature = 0.5")
    try:
        run(shell, "%omlx settings")
    finally:
        settings().temperature = -1
    shown = capsys.readouterr().out
    assert "| `temperature` | `OMLX_TEMPERATURE` | 0.5 | %config |" in shown
    assert "| `max_tokens` | 3 | %omlx set |" in shown
    assert "| `temperature` | 0.5 | Omlx.temperature (%config) |" in shown
    run(shell, "%omlx set max_tokens=default alias=")
    assert "Nothing is kept for tiny-ocr." in capsys.readouterr().out
    assert "takes one model" in complaint(shell, "%omlx set a b top_p=1", capsys)
    assert running.sampling_from(type("Args", (), {})).max_tokens is None


def test_an_engine_takes_them_too() -> None:
    from omlx_jupyter import Engine

    with Engine.load(sampling=SamplingParams(max_tokens=1, temperature=0)) as engine:
        assert len(engine.generate("Write on").token_ids) == 1
        assert len(engine.generate("Write on", sampling=SamplingParams(max_tokens=2)).token_ids) == 2


def test_a_wrong_entry_of_another_model_is_in_nobodys_way(place: Path) -> None:
    place.parent.mkdir()
    place.write_text('["other/model"]\nbanana = 1\n["mine"]\ntop_p = 0.5\nalias = "m"\n')
    assert per_model.of("mine") == {"top_p": 0.5}
    assert per_model.resolve("m") == "mine"
    with pytest.raises(UsageError, match="banana of other/model"):
        per_model.change("mine", {"top_p": "0.6"})
