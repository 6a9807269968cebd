"""Forms: resources that are alike but for a few leaves, so what they share is made once.

A form is a resource with gaps. Filling the gaps gives the text that is stored without
building the resource; whoever else needs something of the resource (its index entries,
its rows) works out the constant part once and keeps it with the form. Why: ADR 0012.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, as_stored, format_instant

Path = tuple[str | int, ...]
"""From a resource to a leaf: property names and places in lists."""

Gap = tuple[Path, ...]
"""The leaves that one value fills."""

_SERVERS_GAPS: tuple[Gap, ...] = ((("id",),), (("meta", "lastUpdated"),))
# What no text of a resource holds: JSON has a NUL only as an escape, FHIR not even so.
_MARK = re.compile(r'"\\u0000(\d+)\\u0000"')
_new = tuple.__new__


class Form:
    """The first version of many resources; `specimen` is one of them, before it is stored.

    Each gap is filled by one value: a text where the specimen has a text, a finite
    Decimal where it has a number. `kept` is for what others derive from the form alone.
    """

    def __init__(self, specimen: Resource, gaps: Sequence[Gap]) -> None:
        self.resource_type: str = specimen["resourceType"]
        self.gaps: tuple[Gap, ...] = (*_SERVERS_GAPS, *gaps)
        self.kept: dict[object, Any] = {}
        self._specimen = as_stored(ResourceKey(self.resource_type, ""), 1, "", specimen)
        marks = [f"\0{number}\0" for number in range(len(self.gaps))]
        parts = _MARK.split(resource_json.format(self.fill(marks)).decode())
        self._order = tuple(map(int, parts[1::2]))
        numbers = {n for n, gap in enumerate(self.gaps) if not isinstance(self._at(gap[0]), str)}
        texts = [part.replace("%", "%%") for part in parts[::2]]
        for place, number in enumerate(self._order):
            texts[place] += "%s" if number in numbers else '"%s"'
        self._text = "".join(texts)
        self._texts = tuple(n for n in range(len(self.gaps)) if n not in numbers)

    def fill(self, values: Sequence[Any]) -> Resource:
        """The resource with `values` in its gaps, the server's own first; the caller's own."""
        filled: Resource = _copy(self._specimen)
        for gap, value in zip(self.gaps, values, strict=True):
            for *path, last in gap:
                node: Any = filled
                for step in path:
                    node = node[step]
                node[last] = value
        return filled

    def create(
        self, key: ResourceKey, now: datetime, values: tuple[str | Decimal, ...]
    ) -> tuple[Version, "Filled"]:
        """The first version of the resource that `values` make; as `version.next_version`."""
        filled: Filled = _new(Filled, (self, (key[1], format_instant(now), *values)))
        version: Version = _new(Version, (key, 1, now, "create", self._body(filled.values), 0))
        return version, filled

    def _body(self, values: tuple[str | Decimal, ...]) -> bytes:
        texts = "".join([values[number] for number in self._texts])  # type: ignore[misc] # texts
        if not texts.isascii() or not texts.isprintable() or '"' in texts or "\\" in texts:
            # What JSON would escape.
            return resource_json.format(self.fill(values))
        return (self._text % tuple([values[number] for number in self._order])).encode()

    def _at(self, path: Path) -> Any:
        node: Any = self._specimen
        for step in path:
            node = node[step]
        return node


class Filled(NamedTuple):
    """A stored resource as a form and what fills its gaps, the server's own first."""

    form: Form
    values: tuple[str | Decimal, ...]

    def resource(self) -> Resource:
        """The resource itself; the caller owns it."""
        return self.form.fill(self.values)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_copy(part) for part in value]
    return value
