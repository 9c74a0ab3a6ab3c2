"""A comparison of the kernel's own model with a server's: one in this process, one in another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omlx_jupyter import vlm
from omlx_jupyter.notebook.answers.result import Failure
from omlx_jupyter.notebook.work import servers, session

from ..notebook.conftest import loaded as loaded
from ..notebook.conftest import shell as shell
from ..notebook.test_magics import run
from .conftest import Served, end, start

ASK = "--temperature 0 --no-draft --max-tokens 12"


@pytest.fixture(scope="module")
def reader(served: Served) -> Iterator[Served]:
    """A second server, whose model reads pages."""
    made = start(f"{served.name}r", ["tiny-ocr"])
    yield made
    end(made)


def test_a_server_beside_the_kernels_own_model(
    shell: Any, served: Served, folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights on both sides say the same."""
    run(shell, f"%omlx load {folders['any']}")
    servers.leave()
    mine = session.current_engine()
    capsys.readouterr()
    both = run(shell, f"%%vlm --compare {folders['any']},{served.name} {ASK} -o both\nWhat is {{img}}?")
    told = capsys.readouterr().out
    assert list(both.results) == [folders["any"], served.name]
    assert both.agree is True
    assert both.results[served.name].text == both.results[folders["any"]].text != ""
    assert both.results[served.name].model == folders["any"]
    assert told.splitlines()[0] == f"{folders['any']}, {served.name} answer at once."
    assert session.current_engine() is mine
    assert not servers.is_remote(mine)
    assert servers._left  # what is configured isn't connected to because of a comparison
    table = vlm.compare([("Text Recognition:", shell.user_ns["img"])], [served.name, folders["any"]], max_tokens=5)
    assert table["agree"].tolist() == [True]
    assert (table[served.name]["tokens_per_s"] > 0).all()


def test_the_server_that_the_kernel_uses_is_the_kernels_model(shell: Any, served: Served, reader: Served) -> None:
    run(shell, f"%omlx connect {served.name}")
    mine = session.current_engine()
    both = run(shell, f"%%vlm --compare {served.name},{reader.name} {ASK}\nText Recognition: {{img}}")
    assert both.results[reader.name].text == "Hello 42"
    assert isinstance(both.agree, bool)
    assert session.current_engine() is mine
    assert run(shell, f"%%vlm {ASK}\nHello").usage.completion_tokens


def test_a_server_that_has_gone_fails_alone(shell: Any, served: Served, reader: Served) -> None:
    reader.kill()
    both = run(shell, f"%%vlm --compare {reader.name},{served.name} {ASK}\nHello {{img}}")
    assert isinstance(both.results[reader.name], Failure)
    assert reader.name in str(both.results[reader.name].error)
    assert both.results[served.name].usage.completion_tokens


def test_two_models_of_one_server(shell: Any, served: Served, folders: dict[str, str]) -> None:
    names = [f"{served.name}#{folders['any']}", f"{served.name}#tiny-ocr"]
    both = run(shell, f"%%vlm --compare {','.join(names)} {ASK}\nText Recognition: {{img}}")
    assert list(both.results) == names
    assert [both.results[name].model for name in names] == [folders["any"], "tiny-ocr"]
    assert both.results[names[1]].text == "Hello 42"


def test_a_servers_key_is_named_and_never_shown(
    shell: Any, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THEIR_KEY", served.record.token)
    monkeypatch.setenv("OTHER_KEY", "of another house")
    open_, shut = (f"{key}@{served.record.url}#tiny-ocr" for key in ("THEIR_KEY", "OTHER_KEY"))
    both = run(shell, f"%%vlm --compare {open_},{served.name}#tiny-ocr {ASK}\nText Recognition: {{img}}")
    assert both.results[open_].text == "Hello 42"
    assert both.agree is True
    without = run(shell, f"%%vlm --compare {shut},{served.name}#tiny-ocr {ASK}\nText Recognition: {{img}}")
    assert isinstance(without.results[shut], Failure)
    told = capsys.readouterr().out + repr(both) + str(both.bundle()) + repr(without)
    assert served.record.token not in told
    assert "of another house" not in told


def test_the_doctor_leaves_a_disconnected_kernel_so(shell: Any, served: Served) -> None:
    servers.leave()
    run(shell, f"%omlx doctor {served.name}")
    assert servers._left
