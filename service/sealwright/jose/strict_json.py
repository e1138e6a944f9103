"""Parses JSON objects strictly: refuses text that two parsers could read differently, and keeps the rest byte for byte.

Python's `json` accepts duplicate names (the last one wins), NaN, Infinity, lone surrogates and any depth. A verifier may read each
of them differently (RFC 8259 §4, §6 and §8.2, RFC 8725 §2.6). The parser keeps the text of each member beside its value, since a
conversion to a float or a fixed-width integer could change a number.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple, NoReturn

from sealwright.errors import Violation

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
MAX_MEMBERS: Final = 1000
"""Members of the outermost object. Each is looked at in Python, and no request may hold the event loop."""
MAX_VIOLATIONS: Final = 51
"""One more than an answer shows. Paths can be long: without this limit 64 KiB of text could produce tens of megabytes."""
_MAX_NAME_SHOWN: Final = 64
_INT64_DIGITS: Final = 19

# The quantifiers are possessive and the end of a string is optional, so that the expression never backtracks. With backtracking,
# an unterminated string of n escaped quotes took n² steps.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_OPENING = re.compile(r"[ \t\n\r]*+\{[ \t\n\r]*+")
_LABEL = re.compile(r'("(?:[^"\\\x00-\x1f]++|\\.)*+")[ \t\n\r]*+:[ \t\n\r]*+', re.DOTALL)
_AFTER_VALUE = re.compile(r"[ \t\n\r]*+([,}])[ \t\n\r]*+")
_SIMPLE_MEMBER = re.compile(
    r'("[^"\\\x00-\x1f]*+")[ \t\n\r]*+:[ \t\n\r]*+(?:("[^"\\\x00-\x1f]*+")|(-?+(?:0|[1-9][0-9]{0,17}+)))'
    r"[ \t\n\r]*+([,}])[ \t\n\r]*+"
)
"""A name and a string without escapes, or a whole number within 64 bits."""
_PLAIN_TEXT: Final = r'"[ !#-\[\]-~]*+"'
_PLAIN_ITEM: Final = rf"(?:{_PLAIN_TEXT}|-?+(?:0|[1-9][0-9]{{0,17}}+)|true|false|null)"
_PLAIN_VALUE: Final = rf"(?:{_PLAIN_ITEM}|\[(?:{_PLAIN_ITEM}(?:,{_PLAIN_ITEM})*+)?+\])"
_PLAIN_MEMBER = re.compile(f'"([^"]*+)":({_PLAIN_VALUE})')
_PLAIN_OBJECT = re.compile(rf'{{(?:{_PLAIN_TEXT}:{_PLAIN_VALUE}(?:,(?=")|(?=}})))*+}}')
"""An object without white space between its parts, of printable ASCII without escapes, whole numbers within 64 bits, and lists of
both: what most callers send."""
_TOO_LARGE: Final = "the number is too large for a double"
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Member(NamedTuple):
    """A member of the outermost object: its value, and its text.

    Attributes:
        name: The name, unescaped.
        value: The value; integers of more than 19 digits are `LargeInteger`.
        text: `"name":value`, as the caller wrote both.
        raw: The value, as the caller wrote it.
    """

    name: str
    value: Any
    text: str
    raw: str


@dataclass(frozen=True, slots=True)
class LargeInteger:
    """An integer that may not fit 64 bits, as text."""

    text: str


class _IrregularError(Exception):
    """The text contains something to refuse. A second pass finds out what and where."""


class _TooManyError(Exception):
    """The outermost object has more members than MAX_MEMBERS."""


class _Bad:
    """Replaces a value in the tree that JSON does not allow."""

    def __init__(self, description: str) -> None:
        self.description = description


class _Repeated(dict[str, Any]):
    """An object in which names occur more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}


class StrictJsonError(ValueError):
    """The text is not a strict JSON object.

    Attributes:
        violations: Everything that is wrong with it.
        members: Its members if it is an object nevertheless; otherwise empty.
    """

    def __init__(self, violations: list[Violation], members: Sequence[Member] = ()) -> None:
        super().__init__("not a strict JSON object")
        self.violations = violations
        self.members = members


def _parse_int(text: str) -> int | LargeInteger | _Bad:
    if len(text) <= _INT64_DIGITS:
        return int(text)
    return LargeInteger(text) if math.isfinite(float(text)) else _Bad(_TOO_LARGE)


def _parse_float(text: str) -> float | _Bad:
    value = float(text)
    return value if math.isfinite(value) else _Bad(_TOO_LARGE)


def _parse_constant(name: str) -> _Bad:
    return _Bad(f"{name} is not JSON")


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else _Repeated(pairs)


def _regular_int(text: str) -> int | LargeInteger:
    value = _parse_int(text)
    if isinstance(value, _Bad):
        raise _IrregularError
    return value


def _regular_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _IrregularError
    return value


def _no_constant(_name: str) -> NoReturn:
    raise _IrregularError


def _regular_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs) or not all(map(str.isprintable, members)):
        raise _IrregularError
    return members


_FAST = json.JSONDecoder(
    object_pairs_hook=_regular_object,
    parse_int=_regular_int,
    parse_float=_regular_float,
    parse_constant=_no_constant,
)
"""Stops at the first violation."""

_THOROUGH = json.JSONDecoder(
    object_pairs_hook=_parse_object,
    parse_int=_parse_int,
    parse_float=_parse_float,
    parse_constant=_parse_constant,
)
"""Marks all violations in the tree that it returns."""


def depth(text: str) -> int:
    """Return how deeply brackets are nested outside strings. The outermost object counts as 1."""
    level = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        match text[match.start()]:
            case "{" | "[":
                level += 1
                deepest = max(deepest, level)
            case "}" | "]":
                level -= 1
    return deepest


def plain_names(text: str) -> list[str] | None:
    """Return the names in an object that every reader reads alike; None: only `parse_object` can tell.

    It is cheaper than `parse_object`, and does not say what is wrong.

    Args:
        text: The JSON text. If this returns names, the text is a brace, the members with a comma between them, and a brace.
    """
    if len(text) > MAX_BYTES or _PLAIN_OBJECT.fullmatch(text) is None:
        return None
    names = [name for name, _ in _PLAIN_MEMBER.findall(text)]
    return names if len(set(names)) == len(names) <= MAX_MEMBERS else None


def parse_object(text: str, field: str) -> list[Member]:
    """Parse a JSON object strictly.

    Args:
        text: The JSON text.
        field: Name of the request's field, for the paths of violations.

    Returns:
        The members in the order of the text.

    Raises:
        StrictJsonError: With every violation (at most `MAX_VIOLATIONS`): text that is not a JSON object, text over 64 KiB, nesting
            over 32, duplicate names and names with control or format characters at any depth, NaN, Infinity, numbers too large
            for a double, lone surrogates.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise StrictJsonError([Violation(field, f"has {size} bytes; at most {MAX_BYTES} are allowed")])
    # Most texts have so few brackets that they cannot be too deep.
    if text.count("{") + text.count("[") > MAX_DEPTH and depth(text) > MAX_DEPTH:
        raise StrictJsonError(
            [Violation(field, f"lists and objects are nested too deeply; at most {MAX_DEPTH} levels are allowed")]
        )
    surrogates = ("\\u" in text and _SURROGATE_ESCAPE.search(text) is not None) or _has_surrogate(text)
    try:
        regular = None if surrogates else _regular_members(text)
        if regular is not None:
            return regular
        members = list(_members(text, _THOROUGH))
    except _TooManyError:
        raise StrictJsonError([Violation(field, f"must have at most {MAX_MEMBERS} members")]) from None
    except json.JSONDecodeError as e:
        raise StrictJsonError([Violation(field, f"not a JSON object: error at character {e.pos}")]) from None
    tree = _parse_object([(m.name, m.value) for m in members])
    violations = list(islice(_violations(tree, field, surrogates=surrogates), MAX_VIOLATIONS))
    if violations:
        raise StrictJsonError(violations, members)
    return members


def _regular_members(text: str) -> list[Member] | None:
    """Return the members if all are regular; None: a second pass must find the violations."""
    try:
        members = list(_members(text, _FAST))
    except _IrregularError:
        return None
    names = {m.name for m in members}
    return members if len(names) == len(members) and all(map(str.isprintable, names)) else None


def _find(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise json.JSONDecodeError("unexpected character", text, at)
    return found


def _members(text: str, decoder: json.JSONDecoder) -> Iterator[Member]:
    """Walk through the outermost object to get the text of each member. The standard library parses the names and values."""
    at = _find(_OPENING, text, 0).end()
    if text.startswith("}", at):
        at += 1
    else:
        closed, count = False, 0
        while not closed:
            count += 1
            if count > MAX_MEMBERS:
                raise _TooManyError
            simple = _SIMPLE_MEMBER.match(text, at)
            if simple is not None:
                quoted, string, number, after = simple.groups()
                value: Any = int(number) if string is None else string[1:-1]
                raw = string or number
                yield Member(quoted[1:-1], value, f"{quoted}:{raw}", raw)
                closed = after == "}"
                at = simple.end()
                continue
            label = _find(_LABEL, text, at)
            quoted, start = label[1], label.end()
            name = decoder.raw_decode(text, at)[0] if "\\" in quoted else quoted[1:-1]
            value, end = decoder.raw_decode(text, start)
            raw = text[start:end]
            yield Member(name, value, f"{quoted}:{raw}", raw)
            rest = _find(_AFTER_VALUE, text, end)
            closed = rest[1] == "}"
            at = rest.end()
    if text[at:].strip(" \t\n\r"):
        raise json.JSONDecodeError("extra data", text, at)


def _shown(name: str) -> str:
    """Escape and shorten a name for a path, since it is the caller's text."""
    shown = json.dumps(name)[1:-1]
    return shown if len(shown) <= _MAX_NAME_SHOWN else shown[:_MAX_NAME_SHOWN] + "…"


def has_control(text: str) -> bool:
    """Return whether a text has control or format characters (Unicode categories Cc and Cf), which some readers cut at or drop."""
    return not text.isprintable() and any(unicodedata.category(c) in {"Cc", "Cf"} for c in text)


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and _SURROGATE.search(text) is not None


def _violations(value: Any, path: str, *, surrogates: bool) -> Iterator[Violation]:
    match value:
        case _Bad():
            yield Violation(path, value.description)
        case str() if surrogates and _has_surrogate(value):
            yield Violation(path, "has a lone surrogate")
        case dict():
            if isinstance(value, _Repeated):
                yield from (
                    Violation(f"{path}.{_shown(name)}", "the name occurs more than once")
                    for name in sorted(value.names)
                )
            for name, member in value.items():
                here = f"{path}.{_shown(name)}"
                if has_control(name):
                    yield Violation(here, "the name has a control or format character")
                if surrogates and _has_surrogate(name):
                    yield Violation(here, "the name has a lone surrogate")
                yield from _violations(member, here, surrogates=surrogates)
        case list():
            for i, item in enumerate(value):
                yield from _violations(item, f"{path}[{i}]", surrogates=surrogates)
