"""Chat templates are programs that come with a checkpoint: they run in jinja's sandbox, and under limits.

A thread can't be ended from outside, so the limits are in the template's own code: each turn of a loop, each call of a
macro and each text that is made is charged to the rendering's account, which ends it with one sentence. What one
operation makes is bounded before it is made, so no single step in C takes long.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from jinja2 import Template, TemplateError, meta, nodes, pass_context
from jinja2.environment import Environment
from jinja2.ext import Extension
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from ..errors import RequestError
from .dates import strftime_now

Made = TypeVar("Made")
Body = TypeVar("Body", nodes.For, nodes.Macro, nodes.CallBlock)
SECONDS = 5.0
_TURNS, _TURNS_PER_INPUT = 200_000, 4  # loop turns and macro calls, and more of them for longer prompts
_CHARS, _CHARS_PER_INPUT = 16 * 2**20, 64  # characters and elements made on the way
_OUTPUT, _OUTPUT_PER_INPUT = 2 * 2**20, 4
_ONE_STEP = 4 * 2**20  # characters or elements of what one operation makes, beyond its inputs
_DIGITS = 4096  # bits of a whole number


class TemplateLimitError(RequestError):
    """A template that works too long or makes too much."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the model's chat template was ended ({why}); use a checkpoint with another.")


@dataclass
class _Account:
    """What one rendering may still do."""

    turns: int
    chars: int
    deadline: float
    weights: dict[int, tuple[object, int]] = field(default_factory=dict)  # the object is kept, so that ids stay

    @classmethod
    def opened(cls, size: int) -> _Account:
        turns, chars = _TURNS + _TURNS_PER_INPUT * size, _CHARS + _CHARS_PER_INPUT * size
        return cls(turns, chars, time.monotonic() + SECONDS)

    def turn(self, chars: int = 0) -> None:
        self.turns -= 1
        self.charge(chars)
        if self.turns < 0:
            raise TemplateLimitError("it loops without end")

    def charge(self, chars: int) -> None:
        self.chars -= chars
        if self.chars < 0:
            raise TemplateLimitError("it makes too much text")
        if time.monotonic() > self.deadline:
            raise TemplateLimitError(f"it takes more than {SECONDS:g} seconds")

    def weigh(self, value: object) -> int:
        """Characters that a value's text has, about. What a list holds twice counts twice: its text does too."""
        if isinstance(value, str):
            return len(value)
        if isinstance(value, int) and value.bit_length() > _DIGITS:
            raise TemplateLimitError("it makes a number too long to write")
        if isinstance(value, Namespace):
            raise TemplateLimitError("it writes out a namespace")
        if not isinstance(value, (Mapping, list, tuple, set)):
            return 8
        held = self.weights.get(id(value))
        if held is not None and held[0] is value:
            return held[1]
        parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
        weight = 2 + sum(2 + self.weigh(part) for part in parts)
        if weight > self.chars:
            raise TemplateLimitError("it makes too large a list")
        self.weights[id(value)] = (value, weight)
        return weight


_account: ContextVar[_Account | None] = ContextVar("omlx_template_account", default=None)


def _charged(value: Made) -> Made:
    account = _account.get()
    if account is not None:
        account.charge(account.weigh(value))
    return value


@pass_context
def _turn(_: Context, chars: int) -> bool:
    account = _account.get()
    if account is not None:
        account.turn(chars)
    return True


@pass_context
def _counted(_: Context, value: Made) -> Made:
    return _charged(value)


class _Meter(NodeTransformer):
    """Writes the charges into a template: a turn in each loop and macro, its weight at each text, list or table."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        if node.test is not None:
            node.test = nodes.And(_call("omlx_turn", nodes.Const(0)), node.test)
        return self._body(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        self.generic_visit(node)
        return self._body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        self.generic_visit(node)
        return self._body(node)

    def _body(self, node: Body) -> Body:
        literal = sum(len(data.data) for part in node.body for data in part.find_all(nodes.TemplateData))
        node.body.insert(0, nodes.ExprStmt(_call("omlx_turn", nodes.Const(literal))))
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        self.generic_visit(node)
        node.nodes = [n if isinstance(n, nodes.TemplateData) else _call("omlx_counted", n) for n in node.nodes]
        return node

    def visit_made(self, node: nodes.Expr) -> nodes.Expr:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load":
            return node  # the left side of an assignment
        return _call("omlx_counted", node)

    visit_Concat = visit_List = visit_Dict = visit_Tuple = visit_made


def _call(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """jinja's sandbox for text that must not run code, with an account for what it does."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.meter()

    def meter(self) -> None:
        """Put all filters under the account; call again where some were added."""
        for name, function in list(self.filters.items()):
            if not hasattr(function, "omlx_metered"):
                self.filters[name] = _metered(name, function)
        self.filters["omlx_turn"], self.filters["omlx_counted"] = _turn, _counted

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        metered = _Meter().visit(source)
        for node in metered.find_all(nodes.Node):
            if node.environment is None:
                node.set_environment(self)
            if getattr(node, "lineno", 1) is None:
                node.set_lineno(1)
        return super()._generate(metered, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> Any:
        _may_combine(operator, left, right)
        return _charged(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: object, **kwargs: object) -> Any:
        account = _account.get()
        if account is not None:
            account.turn()
        text = getattr(__obj, "__self__", None)
        if isinstance(text, str):
            _may_make(__obj.__name__, text, [*args, *kwargs.values()])
        found = super().call(__context, __obj, *args, **kwargs)
        return found if isinstance(found, (Namespace, Undefined)) else _charged(found)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _may_format(value.__self__)
        return wrapped


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is asked what it will make before, and charged for it after."""
    skipped = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0

    def run(*args: object, **kwargs: object) -> Any:
        value, rest = args[skipped], [*args[skipped + 1 :], *kwargs.values()]
        account = _account.get()
        if account is not None and not isinstance(value, (Iterator, Undefined)):
            account.turn(account.weigh(value) if name in _WRITES else 0)
        _may_make(name, value, rest)
        return _charged(function(*args, **kwargs))

    for mark in ("jinja_pass_arg", "jinja_async_variant"):
        if hasattr(function, mark):
            setattr(run, mark, getattr(function, mark))
    run.omlx_metered = True  # type: ignore[attr-defined]
    return run


_WRITES = ("string", "tojson", "pprint", "join", "escape", "e", "forceescape", "xmlattr", "urlencode", "safe")
_WIDTHS = ("center", "ljust", "rjust", "zfill", "expandtabs", "indent", "batch", "slice", "tojson", "wordwrap", "round")


def _may_make(name: str, value: object, rest: Sequence[object]) -> None:
    """:raises TemplateLimitError: a filter or a text's method that would make more than one step may."""
    if name in _WIDTHS:
        lines = value.count("\n") + value.count("\t") + 1 if isinstance(value, str) else 1
        widths = [len(r) if isinstance(r, str) else r for r in rest if isinstance(r, (int, float, str))]
        _bound(lines * max(widths, default=0))
    elif name == "replace" and isinstance(value, str) and len(rest) >= 2:
        old, new = str(rest[0]), str(rest[1])
        _bound(value.count(old) * len(new) if old else (len(value) + 1) * len(new))
    elif name == "join":
        parts, separator = (rest[0], value) if isinstance(value, str) and rest else (value, "".join(map(str, rest[:1])))
        if isinstance(parts, (list, tuple)):
            _bound(sum(len(p) if isinstance(p, str) else 8 for p in parts) + len(parts) * len(str(separator)))
    elif name in ("format", "format_map") and isinstance(value, str):
        _may_format(value)
        _bound(sum(r for r in rest if isinstance(r, int)) if "*" in value else 0)
    elif name == "sum" and any(isinstance(r, (list, tuple, str)) for r in rest):
        raise TemplateLimitError("it adds up lists")


def _may_format(text: str) -> None:
    if re.search(r"\d{6}", text) or re.search(r"[:!][^{}]*\{", text):
        raise TemplateLimitError("it formats to a width without limit")


def _may_combine(operator: str, left: object, right: object) -> None:
    if operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(many, (str, list, tuple)) and isinstance(times, int):
                _bound(len(many) * times)
        if isinstance(left, int) and isinstance(right, int):
            _digits(left.bit_length() + right.bit_length())
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _digits(left.bit_length() * abs(right))
    elif operator == "%" and isinstance(left, str):
        _may_make("format", left, right if isinstance(right, tuple) else [right])
        _charged(right)


def _bound(size: float) -> None:
    account = _account.get()
    if account is not None and size > min(_ONE_STEP, account.chars):
        raise TemplateLimitError("it makes too much text")


def _digits(bits: int) -> None:
    if bits > _DIGITS:
        raise TemplateLimitError("it makes a number too long to write")


@contextmanager
def limits(size: int) -> Iterator[None]:
    """Renderings inside share one account, made for an input of `size` characters.

    transformers compiles templates in one place; inside, that place gives templates of the bounded sandbox. Other
    threads, and renderings outside, have transformers' own.

    :raises TemplateLimitError: a rendering took or made too much.
    """
    _install()
    token = _account.set(_Account.opened(size))
    try:
        yield
    finally:
        _account.reset(token)


def words_of(template: str) -> frozenset[str]:
    """Names that a template reads and doesn't set itself, without those that transformers always has.

    :raises RequestError: it is no template.
    """
    from transformers.utils import chat_template_utils as upstream

    try:
        with limits(len(template)):
            environment: Environment = upstream._compile_jinja_template(template).environment
            found = meta.find_undeclared_variables(environment.parse(template))
    except TemplateError as error:
        raise RequestError(f"the model's chat template can't be read ({error}).") from error
    return frozenset(found - set(environment.globals))


def check_output(text: str, size: int) -> str:
    """:raises TemplateLimitError: more text than an input of `size` characters accounts for."""
    if len(text) > _OUTPUT + _OUTPUT_PER_INPUT * size:
        raise TemplateLimitError("it makes too much text")
    return text


_INSTALL = threading.Lock()


def _install() -> None:
    from transformers.utils import chat_template_utils as upstream

    with _INSTALL:
        compile_theirs = upstream._compile_jinja_template
        if hasattr(compile_theirs, "omlx_bounded"):
            return

        def compile_template(text: str) -> Template:
            if _account.get() is not None:
                return _bounded(text)  # theirs would fold constants without limit while it compiles
            theirs: Template = compile_theirs(text)
            return theirs

        compile_template.omlx_bounded = True  # type: ignore[attr-defined]
        upstream._compile_jinja_template = compile_template

        @lru_cache(maxsize=64)
        def _bounded(text: str) -> Template:
            model: Environment = compile_theirs("").environment
            made = BoundedEnvironment(
                trim_blocks=model.trim_blocks, lstrip_blocks=model.lstrip_blocks, extensions=_extensions(model)
            )
            made.filters.update({n: f for n, f in model.filters.items() if f is not FILTERS.get(n)})
            made.globals.update(model.globals)
            made.globals["strftime_now"] = strftime_now
            made.meter()
            return made.from_string(text)


def _extensions(model: Environment) -> list[type[Extension]]:
    return [type(extension) for extension in model.extensions.values()]


@lru_cache(maxsize=16)
def _plain(text: str) -> Template:
    return BoundedEnvironment(extensions=["jinja2.ext.loopcontrols"]).from_string(text)


def render_plain(text: str, messages: Sequence[object]) -> str:
    """As those of mlx-vlm's processors render that use jinja without its sandbox. Inside `limits`."""
    return _plain(text).render(messages=messages, add_generation_prompt=True)
