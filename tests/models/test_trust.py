"""No code of a checkpoint runs unless trust_code is True (8 s)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter.models import hub
from omlx_jupyter.models.hub import embedded_path
from omlx_jupyter.models.loader import load_model
from omlx_jupyter.models.trust import CodeRefusedError, gate
from omlx_jupyter.models.view import named_code

from .trust_cases import HARD_CODED, cases, edit, plant

SAFE_ALREADY = {"kimi_k3"}  # tells transformers False by itself
RUN_WHEN_TRUSTED = (
    "config.json AutoConfig evil.T",
    "config.json AutoConfig someone/code--evil.T",
    "tokenizer_config.json AutoTokenizer evil.T",
    "trust_remote_code by file",
    "escaped",
    "model_file",
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases in one process, whose environment and stdin say yes to everything."""
    root = tmp_path_factory.mktemp("hostile")
    yes = {"TRUST_REMOTE_CODE": "1", "HF_HUB_TRUST_REMOTE_CODE": "1", "HF_TRUST_REMOTE_CODE": "1"}
    environment = {**os.environ, **yes, "HF_HOME": str(root / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.trust_cases", str(root)],
        input="y\n" * 1000,
        capture_output=True,
        text=True,
        env=environment,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_untrusted_code_never_runs(outcomes: dict[str, Any]) -> None:
    untrusted = {name: found for name, found in outcomes.items() if name.endswith(" False") or "family" in name}
    assert len(untrusted) == len(list(cases())) + len(HARD_CODED)
    assert not [name for name, found in untrusted.items() if found["ran"]]
    assert not [name for name, found in untrusted.items() if found["outcome"] == "raised"]


def test_a_built_in_class_serves_where_there_is_one(outcomes: dict[str, Any]) -> None:
    refused = {name for name, found in outcomes.items() if name.endswith(" False") and found["outcome"] != "loaded"}
    assert refused == {"config.json all evil.T False", "config.json all someone/code--evil.T False", "model_file False"}


def test_a_refusal_names_the_file_and_the_mend(outcomes: dict[str, Any]) -> None:
    for name, file in (("evil.T", "evil.py"), ("someone/code--evil.T", "someone/code/evil.py")):
        (said,) = outcomes[f"config.json all {name} False"]["said"]
        assert f"{file} (named in config.json)" in said
        assert "pass trust_code=True if you trust it." in said
    (said,) = outcomes["model_file False"]["said"]
    assert "evil.py" in said
    assert "trust_code=True" in said


def test_trusted_code_runs_and_is_named_with_its_hash(outcomes: dict[str, Any]) -> None:
    assert [name for name in RUN_WHEN_TRUSTED if not outcomes[f"{name} True"]["ran"]] == []
    for name in (
        "tokenizer_config.json AutoTokenizer evil.T",
        "tokenizer_config.json AutoTokenizer someone/code--evil.T",
    ):
        found = outcomes[f"{name} True"]
        assert found["outcome"] == "loaded", found
        assert re.search(r"code of the checkpoint ran, .* evil\.py \(sha256 [0-9a-f]{64}\)", found["said"][-1])


def test_the_families_cases_reach_the_code_that_the_gate_stops(outcomes: dict[str, Any]) -> None:
    assert {family for family in HARD_CODED if not outcomes[f"ungated {family}"]["ran"]} == SAFE_ALREADY


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(embedded_path(), tmp_path / "model"))
    plant(folder, tmp_path / "canary")
    edit(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]})
    return folder


def test_the_view_has_neither_code_nor_pickles(hostile: Path) -> None:
    (hostile / "pytorch_model.bin").write_bytes(b"x")
    (named,) = named_code(hostile)[:1]
    assert (named.file, named.key, named.source) == ("tokenizer_config.json", "auto_map", "evil.py")
    with gate(hostile, False) as opened:
        assert not list(opened.view.rglob("*.py"))
        assert not (opened.view / "pytorch_model.bin").exists()
        assert "auto_map" not in json.loads((opened.view / "tokenizer_config.json").read_text())
        assert (opened.view / "tokenizer.json").samefile(hostile / "tokenizer.json")
    assert "auto_map" in (hostile / "tokenizer_config.json").read_text()
    opened.close()
    assert not opened.view.parent.exists()


def test_a_token_that_is_called_auto_map_stays(hostile: Path) -> None:
    (hostile / "vocab.json").write_text(json.dumps({"auto_map": 1}))
    with gate(hostile, False) as opened:
        assert json.loads((opened.view / "vocab.json").read_text()) == {"auto_map": 1}
    opened.close()


def test_transformers_is_closed_inside_and_as_before_after(hostile: Path) -> None:
    from transformers import dynamic_module_utils
    from transformers.models.auto import tokenization_auto

    before = dynamic_module_utils.get_class_from_dynamic_module
    with gate(hostile, False) as opened:
        with pytest.raises(CodeRefusedError):
            tokenization_auto.get_class_from_dynamic_module("evil.T", str(hostile))
        with pytest.raises(CodeRefusedError):
            tokenization_auto.resolve_trust_remote_code(True, "x", False, True)
        assert tokenization_auto.resolve_trust_remote_code(True, "x", True, True) is False
    opened.close()
    assert dynamic_module_utils.get_class_from_dynamic_module is before
    assert tokenization_auto.get_class_from_dynamic_module is before


def test_one_load_at_a_time(hostile: Path) -> None:
    inside = threading.Event()

    def second() -> None:
        with gate(hostile, False) as other:
            inside.set()
        other.close()

    thread = threading.Thread(target=second)
    with gate(hostile, False) as opened:
        thread.start()
        assert not inside.wait(0.1)
    thread.join(10)
    opened.close()
    assert inside.is_set()


def test_a_family_that_only_auto_map_tells_is_told_before(tmp_path: Path) -> None:
    import mlx_vlm.utils as upstream
    from mlx_vlm.utils import load_config

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "lfm2_vl", "auto_map": {"AutoModel": "m.D1Model"}}))
    with gate(tmp_path, False) as opened:
        config = load_config(opened.view)
        assert "auto_map" not in config
        assert upstream.get_model_type(config) == "d1"
    opened.close()
    assert upstream.get_model_type({"model_type": "lfm2_vl"}) == "lfm2_vl"


def test_what_is_imported_is_what_was_hashed(hostile: Path) -> None:
    with gate(hostile, True) as opened:
        copy = opened.view / "evil.py"
        assert not copy.is_symlink()
        assert opened.hashes["evil.py"] == hashlib.sha256(copy.read_bytes()).hexdigest()
        (hostile / "evil.py").write_text("changed")
        assert opened.hashes["evil.py"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    opened.close()


def test_the_view_goes_with_the_model() -> None:
    import gc

    model = load_model(None)
    view = Path(model.model.model_path)
    assert (view / "config.json").exists()
    del model
    gc.collect()
    assert not view.exists()


def test_views_of_killed_processes_go_after_a_day(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = {name: tmp_path / f"omlx-model-{name}" for name in ("99999999-a", "99999999-young", f"{os.getpid()}-b")}
    for folder in left.values():
        folder.mkdir()
    for name in ("99999999-a", f"{os.getpid()}-b"):
        os.utime(left[name], (0, 0))
    with gate(hostile, False) as opened:
        assert [folder.exists() for folder in left.values()] == [False, True, True]
    opened.close()


def test_code_is_fetched_only_where_it_is_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def download(repo: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    hub.resolve_model("org/name")
    hub.resolve_model("org/name", trust_code=True)
    hub.code_of("org/other")
    assert ["*.py" in patterns for patterns in asked] == [False, True, True]
    assert asked[2] == ["*.py"]
