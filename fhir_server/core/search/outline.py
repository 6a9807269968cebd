"""Outlines: the entries that all resources of a form share, and how the others are made.

What is extracted is decided by the same walk as for any resource. It runs once over the
form's specimen and tells which elements it came by: those without a gap give the same
entries for ever, the others are filled and extracted anew for each resource.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import takewhile
from typing import Any, NamedTuple

from fhir_server.core.form import Form
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries, TextEntry
from fhir_server.core.search.extract import Extract, is_single

_new = tuple.__new__


class Found(NamedTuple):
    """An element that a walk came by, and what the walk does with it.

    `kind` is the place in `IndexEntries` of what `extract` adds.
    """

    extract: Extract
    kind: int
    value: Any
    parameter: str
    element: int


class OutlinedEntries(IndexEntries):
    """All entries of a resource that has a form.

    Of each kind those that `outline` says are shared come first, in their order.
    """

    outline: "Outline"


class _Step(NamedTuple):
    """Something to extract from each resource: gap `number`, within `around` at `name`."""

    extract: Extract
    kind: int
    parameter: str
    element: int
    number: int
    around: dict[str, Any] | None
    name: str


class Outline:
    """What one form says to one index.

    `shared` is what its resources all say; the first `codes` of the tokens are codes, no
    identifiers.
    """

    def __init__(
        self, shared: IndexEntries, steps: Sequence[_Step], distinct: Callable[[Any], Any]
    ) -> None:
        self.shared = shared
        self.codes = sum(1 for _ in takewhile(lambda token: not token.is_identifier, shared.tokens))
        self._steps = tuple(steps)
        self._distinct = distinct
        self._may_repeat = frozenset(
            kind for kind in range(len(shared)) if _may_repeat(kind, shared[kind], steps)
        )

    def entries(self, values: Sequence[str | Decimal]) -> OutlinedEntries:
        """The entries of the resource whose gaps are filled by `values`."""
        kinds: list[Any] = [None] * len(self.shared)
        for extract, kind, parameter, element, number, around, name in self._steps:
            value: Any = values[number]
            if around is not None:
                value = {**around, name: value}
            entries = kinds[kind]
            if entries is None:
                entries = kinds[kind] = []
            extract(value, entries.append, parameter, element)
        for kind, shared in enumerate(self.shared):
            own = kinds[kind]
            if not own:
                kinds[kind] = shared
            elif kind in self._may_repeat:
                kinds[kind] = self._distinct([*shared, *own])
            else:
                kinds[kind] = (*shared, *own)
        found: OutlinedEntries = _new(OutlinedEntries, kinds)
        found.outline = self
        return found


def outline(
    form: Form,
    values: Sequence[str | Decimal],
    walk: Callable[[Resource], Iterable[Found]],
    texts: Callable[[Resource], Sequence[str]],
    text_entries: Callable[[Resource], tuple[TextEntry, ...]],
    distinct: Callable[[Any], Any],
) -> Outline | None:
    """The outline of `form`, of whose resources `values` make one; None if it has none.

    `walk` must choose its elements by their names alone.
    """
    marks = [_mark(number, value) for number, value in enumerate(values)]
    shared: list[Any] = [[] for _ in IndexEntries._fields]
    steps: list[_Step] = []
    for found in walk(form.fill(marks)):
        if not _has_gap(found.value):
            found.extract(found.value, shared[found.kind].append, found.parameter, found.element)
            continue
        step = _step(found, shared[found.kind].append)
        if step is None:
            return None
        if step.number >= 0:
            steps.append(step)
    plain = form.fill(values)
    renamed = form.fill([f"gap {n}" if type(v) is str else v for n, v in enumerate(values)])
    if texts(plain) != texts(renamed):
        return None
    entries = IndexEntries._make(map(distinct, shared))
    return Outline(entries._replace(texts=text_entries(plain)), steps, distinct)


class _Text(str):
    """A text that fills gap `number`."""

    number: int


class _Number(Decimal):
    """A number that fills gap `number`."""

    number: int


def _mark(number: int, value: str | Decimal) -> _Text | _Number:
    mark = _Text(value) if isinstance(value, str) else _Number(value)
    mark.number = number
    return mark


class _Watched(dict[str, Any]):
    """An element that notes which of the marks in it, or in what it holds, are read."""

    def __init__(self, element: dict[str, Any], read: list[int]) -> None:
        super().__init__({name: _watched(part, read) for name, part in element.items()})
        self._read = read

    def get(self, name: str, default: Any = None) -> Any:
        found = super().get(name, default)
        if isinstance(found, _Text | _Number):
            self._read.append(found.number)
        return found

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return self.get(name)


def _watched(value: Any, read: list[int]) -> Any:
    if isinstance(value, dict):
        return _Watched(value, read)
    return [_watched(part, read) for part in value] if isinstance(value, list) else value


def _has_gap(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_gap, value.values()))
    if isinstance(value, list):
        return any(map(_has_gap, value))
    return isinstance(value, _Text | _Number)


def _step(found: Found, add: Callable[[Any], None]) -> _Step | None:
    """How to extract from an element with gaps; None if there is no telling.

    Where no gap of it is read it gives the same for ever: added, and the step has no number.
    """
    extract, kind, value, parameter, element = found
    if isinstance(value, _Text | _Number):
        return _Step(extract, kind, parameter, element, value.number, None, "")
    read: list[int] = []
    entries: list[Any] = []
    extract(_Watched(value, read), entries.append, parameter, element)
    if not read:
        for entry in entries:
            add(entry)
        return _Step(extract, kind, parameter, element, -1, None, "")
    names = [name for name, part in value.items() if isinstance(part, _Text | _Number)]
    if len(names) != 1 or set(read) != {value[names[0]].number}:
        return None
    # What else is in it with a gap is not read, so it need not be there.
    around = {name: part for name, part in value.items() if not _has_gap(part)}
    number = value[names[0]].number
    return _Step(extract, kind, parameter, element, number, around, names[0])


def _may_repeat(kind: int, shared: Sequence[Any], steps: Sequence[_Step]) -> bool:
    """Whether entries of that kind may turn out to be the same."""
    own = [step for step in steps if step.kind == kind]
    names = {(step.parameter, step.element) for step in own}
    return (
        len(names) < len(own)
        or not all(is_single(step.extract, step.around or {}) for step in own)
        or any((entry.parameter, entry.element) in names for entry in shared)
    )
