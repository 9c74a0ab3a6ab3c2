"""Run in a process of its own by test_trust.py: loads hostile checkpoints and prints what came of each, as JSON.

python -m tests.models.trust_cases FOLDER; the folder gets a copy of the embedded model a case.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

CLASSES = {
    "config.json": ("AutoConfig", "AutoModel", "AutoProcessor", "AutoTokenizer", "AutoImageProcessor"),
    "tokenizer_config.json": ("AutoTokenizer", "AutoProcessor"),
    "preprocessor_config.json": ("AutoImageProcessor", "AutoProcessor", "AutoFeatureExtractor"),
    "processor_config.json": ("AutoProcessor",),
    "video_preprocessor_config.json": ("AutoVideoProcessor", "AutoProcessor"),
    "generation_config.json": ("AutoModel",),
    "special_tokens_map.json": ("AutoTokenizer",),
}
REFERENCES = ("evil.T", "someone/code--evil.T")
# Families of mlx-vlm whose processors hard-code, default to or set trust_remote_code=True.
HARD_CODED = (
    "inkling",
    "minicpmv4_6",
    "minicpmo",
    "internvl_chat",
    "got",
    "moondream1",
    "moondream2",
    "moondream3",
    "glm4v",
    "glm4v_moe",
    "glm_ocr",
    "paddleocr_vl",
    "molmo",
    "molmo2",
    "molmo_point",
    "kimi_k25",
    "kimi_vl",
    "phi3_v",
    "phi4mm",
    "gemma4",
    "gemma4_unified",
    "hunyuan_vl",
    "falcon_ocr",
    "falcon_perception",
    "fastvlm",
    "locateanything",
    "nemotron_parse",
    "lfm2_vl",
    "glm5_next",
    "phi4-siglip",
    "kimi_k3",
    "mage_vl",
    "unlimited_ocr",
)


def edit(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**held, **values}))


def plant(folder: Path, canary: Path) -> None:
    """A module that tells on itself, wherever it is imported from; no two alike, so that none is remembered."""
    folder.mkdir(parents=True, exist_ok=True)
    code = f"# {folder}\nfrom transformers import PreTrainedTokenizerFast\nopen({str(canary)!r}, 'a').write('ran')\n"
    code += "class T(PreTrainedTokenizerFast):\n    pass\nModel = ModelArgs = ModelConfig = T\n"
    for name in ("evil.py", "custom_generate/generate.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)


def in_hub_cache(name: str, canary: Path) -> Path:
    """A repository as if it had been downloaded, so that no network is needed to run it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repo, commit = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}", "0" * 40
    plant(repo / "snapshots" / commit, canary)
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / "main").write_text(commit)
    return repo / "snapshots" / commit


def cases() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Name, and what each JSON file gets."""
    for file, classes in CLASSES.items():
        for reference in REFERENCES:
            for name in classes:
                value: Any = [reference, reference] if name == "AutoTokenizer" else reference
                yield f"{file} {name} {reference}", {file: {"auto_map": {name: value}}}
            everything = dict.fromkeys(classes, reference)
            yield f"{file} all {reference}", {file: {"auto_map": everything, **without_class(file)}}
    nested = {"image_processor": {"auto_map": {"AutoImageProcessor": "evil.T"}}}
    yield "processor_config.json nested", {"processor_config.json": nested}
    yield (
        "trust_remote_code by file",
        {
            "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}, "trust_remote_code": True},
            "processor_config.json": {"trust_remote_code": True, "auto_map": {"AutoProcessor": "evil.T"}},
        },
    )
    yield "custom_generate", {"generation_config.json": {"custom_generate": "."}}
    yield "custom_pipelines", {"config.json": {"custom_pipelines": {"x": {"impl": "evil.T", "type": "text"}}}}
    yield "escaped", {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}}
    yield "model_file", {"config.json": {"model_file": "evil.py"}}


def without_class(file: str) -> dict[str, str]:
    """With a class that no library has, code is the only way."""
    named = {"tokenizer_config.json": "tokenizer_class", "processor_config.json": "processor_class"}
    named |= {"preprocessor_config.json": "image_processor_type", "config.json": "model_type"}
    return {named[file]: "NoSuchClass"} if file in named else {}


def tried(folder: Path, canary: Path, trust: bool) -> dict[str, Any]:
    from omlx_jupyter.errors import ModelError
    from omlx_jupyter.models.loader import load_model

    canary.unlink(missing_ok=True)
    try:
        model = load_model(folder, trust)
        outcome, said = "loaded", list(model.warnings)
    except ModelError as error:
        outcome, said = "refused", [str(error)]
    except Exception as error:
        outcome, said = "raised", [f"{type(error).__name__}: {error}"]
    return {"outcome": outcome, "said": said, "ran": canary.exists()}


def processor_of(family: str, folder: Path, canary: Path, gated: bool) -> dict[str, Any]:
    """The family's own processor code over a folder that names code in every file, inside the gate or without it."""
    import importlib

    from transformers import AutoProcessor

    from omlx_jupyter.models.trust import gate

    canary.unlink(missing_ok=True)
    package = {"moondream1": "moondream2", "phi4-siglip": "phi4_siglip"}.get(family, family)
    importlib.import_module(f"mlx_vlm.models.{package}")
    if family.startswith("minicpm"):
        (folder / "tokenizer.json").write_text("{")  # only then they ask for code
    with gate(folder, False) if gated else nullcontext() as opened:
        try:
            AutoProcessor.from_pretrained(str(opened.view if opened else folder))
            outcome = "loaded"
        except Exception as error:
            outcome = type(error).__name__
        if opened:
            opened.close()
    return {"outcome": outcome, "ran": canary.exists()}


def main(root: Path) -> None:
    from omlx_jupyter.models.hub import embedded_path

    canary = root / "canary"
    in_hub_cache("someone/code", canary)
    starmie = in_hub_cache("moondream/starmie-v1", canary)  # where moondream's processors look, and trust
    shutil.copy(embedded_path() / "tokenizer.json", starmie)
    edit(starmie, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T"] * 2}, tokenizer_class="NoSuchClass")
    found: dict[str, Any] = {}
    for index, (name, files) in enumerate(cases()):
        for trust in (False, True):
            folder = root / f"case{index}{trust}"
            shutil.copytree(embedded_path(), folder)
            plant(folder, canary)
            for file, values in files.items():
                edit(folder, file, **values)
            if name == "escaped":
                path = folder / "tokenizer_config.json"
                path.write_text(path.read_text().replace("auto_map", "auto\\u005fmap"))
            found[f"{name} {trust}"] = tried(folder, canary, trust)
    for family in HARD_CODED:
        folder = root / f"family-{family}"
        shutil.copytree(embedded_path(), folder)
        plant(folder, canary)
        for file, classes in CLASSES.items():
            edit(folder, file, auto_map={c: "evil.T" if c != "AutoTokenizer" else ["evil.T"] * 2 for c in classes})
        edit(folder, "config.json", model_type=family)
        edit(folder, "tokenizer_config.json", tokenizer_class="NoSuchTokenizer")
        found[f"family {family}"] = processor_of(family, folder, canary, gated=True)
        found[f"ungated {family}"] = processor_of(family, folder, canary, gated=False)
    print(json.dumps(found))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(Path(sys.argv[1]))
