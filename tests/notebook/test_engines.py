"""Which engine a request of the kernel goes to: its own, a server's, the next one where one has gone. Engines note here
what happens to them; tests/serve has the same with real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential

from omlx_jupyter.errors import EngineClosedError, RequestError
from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.notebook.work import servers, session

SECRET = "sk-secret-of-the-lab"


class Noted:
    """An engine; a server's where it has an `address`."""

    def __init__(self, name: str, at: str = "", drafter: str = "", state: str = "idle") -> None:
        self.name, self.drafter, self.state = name, drafter, state
        self.remote, self.address, self.asked_for = bool(at), SimpleNamespace(shown=at, url=at), (at, None, "")
        self.asked = self.closed = 0

    def stats(self) -> Any:
        return SimpleNamespace(state=self.state)

    def close(self) -> None:
        self.closed += 1
        self.state = "closed"


def ask(engine: Noted) -> str:
    engine.asked += 1
    if engine.state == "closed":
        raise EngineClosedError(f"{engine.name} is closed")
    return f"{engine.name} answers"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    session._engine.clear()
    servers._left.clear()
    session._tell_if_slow.cache_clear()
    yield
    session._engine.clear()
    servers._left.clear()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Noted]]:
    """What was loaded or connected to, and the engine that it became."""
    found: list[tuple[Any, Noted]] = []

    def loaded(model: Any, drafter: Any, on_wait: Any) -> Noted:
        found.append(((model, drafter), Noted(model or "tiny-ocr", drafter=drafter or "")))
        return found[-1][1]

    def opened(name: str, model: Any = None, key_env: str = "") -> Noted:
        if name == "nobody":
            raise EngineClosedError("nobody answers")
        found.append(((name, model, key_env), Noted(model or "served", at=name)))
        return found[-1][1]

    monkeypatch.setattr(session, "loaded", loaded)
    monkeypatch.setattr(servers, "opened", opened)
    return found


def test_a_model_is_loaded_where_another_one_or_drafter_is_wanted(made: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(settings(), "model", "a/b")
    monkeypatch.setattr(settings(), "drafter", "d/b")
    first = session.engine()
    assert session.engine() is session.engine("a/b") is session.engine("a/b", drafter="d/b") is first
    second = session.engine("c/d")
    assert (first.closed, session.current_engine()) == (1, second)
    third = session.engine("c/d", drafter="d/d")
    assert session.engine() is third
    assert [asked for asked, _ in made] == [("a/b", "d/b"), ("c/d", None), ("c/d", "d/d")]
    assert session.unload() == "c/d"
    assert (third.closed, session.current_engine(), session.unload()) == (1, None, None)


def test_a_server_that_is_set_is_used_until_it_is_left(made: Any, monkeypatch: Any) -> None:
    assert not servers.configured()
    monkeypatch.setattr(settings(), "server", "lab")
    monkeypatch.setattr(settings(), "server_key_env", "LAB_KEY")
    assert servers.configured()
    first = session.engine()
    assert made[0][0] == ("lab", None, "LAB_KEY")
    assert (session.disconnect(), first.closed, session.disconnect()) == ("lab", 1, None)
    assert not servers.configured()
    own = session.engine()
    assert (made[1][0], own.remote) == ((None, ""), False)
    there = session.connect("lab", "m")
    assert servers.configured()
    assert (own.closed, session.current_engine()) == (1, there)
    assert session.engine("m") is not there  # `%omlx load` of what a server has, too, is an engine of its own
    assert there.closed == 1


def test_a_closed_engine_is_replaced_and_a_lost_server_is_asked_for_again(
    made: Any, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("omlx_jupyter.models.blas.slow_note", lambda: "it is slow")
    own = session.engine()
    own.state = "closed"
    assert not servers.has_gone()  # it is no server's
    assert session.submit(ask) == session.submit(ask) == "tiny-ocr answers"
    assert (len(made), own.asked) == (2, 1)
    assert capsys.readouterr().err.count("Note: it is slow (%omlx doctor).") == 1  # once a kernel
    there = session.connect("lab", "m")
    assert not servers.has_gone()
    there.state = "closed"
    assert servers.has_gone()
    session._tell_if_slow.cache_clear()
    assert session.submit(ask) == "m answers"
    assert made[-1][0] == ("lab", "m", "")
    assert session.current_engine() is made[-1][1]
    assert capsys.readouterr().err == ""  # a server's machine isn't this one
    lost = session.current_engine()
    lost.state, lost.asked_for = "closed", ("nobody", None, "")
    with pytest.raises(EngineClosedError, match="the server lab has gone"):
        session.submit(ask)
    assert session.current_engine() is lost


def test_who_lost_a_server_uses_the_one_that_another_thread_has_found(made: Any) -> None:
    lost = session.connect("lab", "m")
    lost.state = "closed"
    found = session._engine[0] = Noted("found", at="lab")
    assert session._again(lost) is found
    assert len(made) == 1


def test_nothing_is_told_of_a_machine_that_is_not_slow(made: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("omlx_jupyter.models.blas.slow_note", lambda: "")
    session.submit(ask)
    assert capsys.readouterr() == ("", "")


def test_a_wait_for_a_model_is_told_line_by_line() -> None:
    said: list[str] = []
    on_wait = session._announce("m", said.append)
    for seconds, share in ((0.1, 0.5), (0.6, 0.0), (0.7, 0.0), (0.8, 0.25), (0.9, 0.25)):
        on_wait(seconds, share)
    assert said[0] == "loading m …"
    assert [line.partition("loading")[2] for line in said[1:]] == [" m … 25 %"]
    session._announce("m", None)(9, 0.5)


def test_a_key_is_in_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", " secret \n")
    assert (servers._key("LAB_KEY"), servers._key("")) == ("secret", "")
    long = "L" * 79
    for variable, shown in (("NOT_THERE", "NOT_THERE"), (long, long), (long + "L", "what --key-env names")):
        with pytest.raises(RequestError, match=f"^{shown} is no variable of the environment that holds a key"):
            servers._key(variable)
    monkeypatch.setitem(os.environ, "sk-key", "secret")  # a key in the place of its variable's name isn't shown
    with pytest.raises(RequestError, match=r"^what --key-env names is no variable"):
        servers._key("sk-key")
    monkeypatch.setenv("LAB_KEY", "  ")
    with pytest.raises(RequestError, match=r"^LAB_KEY is no variable"):
        servers._key("LAB_KEY")


class Ring(KeyringBackend):
    """A keyring in memory, through the package's own doors."""

    priority = 1
    held: ClassVar[dict[tuple[str, str], str]] = {("lab", "me"): SECRET, ("empty", "me"): " "}

    def get_password(self, service: str, username: str) -> str | None:
        if service == "broken":
            raise OSError(f"no D-Bus, {SECRET}")
        return self.held.get((service, username))

    def get_credential(self, service: str, username: str | None) -> Any:
        return next((SimpleCredential(user, key) for (s, user), key in self.held.items() if s == service), None)

    def set_password(self, service: str, username: str, password: str) -> None: ...

    def delete_password(self, service: str, username: str) -> None: ...


def test_a_key_from_the_keyring() -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(Ring())
    try:
        assert servers._key("keyring:lab:me") == servers._key("keyring:lab") == SECRET
        for words in ("keyring:lab:you", "keyring:none", "keyring:empty:me", "keyring:broken:me", "keyring:"):
            with pytest.raises(RequestError, match="keyring") as told:
                servers._key(words)
            assert SECRET not in str(told.value)
        with pytest.raises(RequestError) as told:
            servers._key("keyring:" + "l" * 90)
        shown = "l" * 80
        assert str(told.value) == f"the keyring has no key for {shown}; keyring set {shown} NAME puts one in."
    finally:
        keyring.set_keyring(before)
