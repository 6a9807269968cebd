"""Whether a profile says what numbers may be measured, so that one reading tells nothing of others.

Readings of one shape are checked once (ADR 0012). That is enough as long as no profile looks at
what differs between them. What is said here errs on the side of yes: that costs only time.
"""

import re
from collections.abc import Iterator

from fhir_server.core.validation.profile import ABSENT, Node, Rule
from fhir_server.core.validation.profile_path import FindProfile

_VALUE = "value"
_DEEPEST = 10
# Of a value these say only whether it is there, and what kind it is.
_SHAPE = re.compile(r"\bvalue\s*\.\s*(?:exists\(\)|empty\(\)|code\b|system\b|unit\b)")
_CONTENT = re.compile(r"\b(?:value|children|descendants)\b")


def limits_numbers(root: Node, find: FindProfile) -> bool:
    """Whether a profile with this tree may refuse one number where it takes another."""
    return _limits(root, "", find, 0)


def _limits(node: Node, name: str, find: FindProfile, depth: int) -> bool:
    if node.least is not None or node.greatest is not None or depth > _DEEPEST:
        return True
    is_value = name == _VALUE
    if is_value and (_has_number(node.fixed) or _has_number(node.pattern)):
        return True
    if any(_looks_inside(rule, is_value=is_value) for rule in node.rules.values()):
        return True
    if any(_limits(child, below, find, depth) for below, child in node.children.items()):
        return True
    if any(_limits(part, name, find, depth) for part in node.slices.values()):
        return True
    return any(_limits(other, name, find, depth + 1) for other in _profiled(node, find))


def _has_number(value: object) -> bool:
    if isinstance(value, dict):
        return _VALUE in value
    return value is not ABSENT


def _looks_inside(rule: Rule, *, is_value: bool) -> bool:
    rest = _SHAPE.sub("", rule.expression)
    return _CONTENT.search(rest) is not None or (is_value and "$this" in rest)


def _profiled(node: Node, find: FindProfile) -> Iterator[Node]:
    for type_ in node.types or ():
        for url in type_.profiles:
            if (profile := find(url)) is not None:
                yield profile.root
