"""`python -m omlx_jupyter serve | status | stop`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ..errors import OmlxError
from ..remote import place, wire
from ..remote.line import Address, Line
from ..visible import shown, size
from .guard import Bounds


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m omlx_jupyter", description="One model for all kernels of a user.")
    commands = made.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="hold models for all who connect")
    serve.add_argument("--name", default=place.USUAL, help="under which it is found (main)")
    serve.add_argument("--model", action="append", metavar="MODEL", help="a folder or a hub id; may be repeated")
    serve.add_argument("--port", type=int, metavar="P", help="also listen on 127.0.0.1, with a token; 0: any free port")
    serve.add_argument("--host", default="127.0.0.1", metavar="H", help="with --port: listen there instead")
    serve.add_argument(
        "--idle-exit", type=float, default=0.0, metavar="S", help="end after S seconds without a request"
    )
    serve.add_argument(
        "--memory-mib", type=int, default=0, metavar="N", help="most memory for models, requests and cache"
    )
    serve.add_argument("--cache-folder", default="", metavar="FOLDER", help="of the prefix cache")
    serve.add_argument("--max-body-mib", type=int, default=Bounds.body // 2**20, metavar="N")
    serve.add_argument("--max-connections", type=int, default=Bounds.connections, metavar="N")
    serve.add_argument("--max-queue", type=int, default=Bounds.queue, metavar="N", help="requests of all clients")
    for name, helped in (("status", "what servers of this user do"), ("stop", "end one")):
        commands.add_parser(name, help=helped).add_argument("--name", default=None if name == "status" else place.USUAL)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = parser().parse_args(arguments)
    try:
        return {"serve": _serve, "status": _status, "stop": _stop}[args.command](args)
    except OmlxError as error:
        _say(error, error=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _say(text: object, error: bool = False) -> None:
    print(shown(str(text)), file=sys.stderr if error else sys.stdout, flush=True)


def _serve(args: argparse.Namespace) -> int:
    from .process import Plan, run

    if args.port is None and args.host != "127.0.0.1":
        _say("--host goes with --port.", error=True)
        return 2
    bounds = Bounds(args.max_body_mib * 2**20, args.max_connections, args.max_queue)
    models = tuple(dict.fromkeys(args.model or ["tiny-ocr"]))
    plan = Plan(
        args.name, models, args.port, args.host, args.idle_exit, args.memory_mib * 2**20, args.cache_folder, bounds
    )
    run(plan, _say)
    return 0


def _status(args: argparse.Namespace) -> int:
    from .process import alive

    names = [args.name] if args.name else place.names()
    for name in names:
        record = alive(name)
        if record is None:
            _say(f"{name}: not running")
            continue
        line = Line(Address(name, socket=record.socket))
        said = json.loads(line.ask("GET", f"{wire.ROOT}/status").body)
        line.close()
        at = f" · {record.url}" if record.url else ""
        _say(f"{name}: process {record.pid} · {len(said['sessions'])} connected{at}")
        for model, stats in said["models"].items():
            _say(f"  {model}: {_figures(stats)}")
    if not names:
        _say("No server runs.")
    return 0


def _figures(stats: wire.Item | None) -> str:
    if stats is None:
        return "not loaded"
    held = sum(stats["memory"]["accounts"].values())
    return (
        f"{stats['state']}, {stats['decoding']} rows, {stats['waiting'] + stats['preparing']} waiting, "
        f"{stats['finished']} finished, {stats['failed']} failed, {size(held)}"
    )


def _stop(args: argparse.Namespace) -> int:
    from .process import end

    ended = end(args.name)
    _say(f"{args.name} has ended." if ended else f"No server {args.name} runs.")
    return 0 if ended else 1
