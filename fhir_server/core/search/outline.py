"""Outlines: the entries that all resources of a form share, and how the others are made.

What is extracted is decided by the same walk as for any resource. It runs once over the
form's specimen and tells which elements it came by: those without a gap give the same
entries for ever, the others are filled and extracted anew for each resource.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core.form import Form
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries, TextEntry
from fhir_server.core.search.extract import Extract, is_single
from fhir_server.core.search.words import TextReader

_NONE = IndexEntries()
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
    """All entries of a resource that has a form, in the order of any resource's.

    `own` are those that are not among what `outline` says are shared.
    """

    outline: "Outline"
    own: IndexEntries


class _Step(NamedTuple):
    """Something to extract from each resource: gap `number`, within `around` at `name`."""

    extract: Extract
    parameter: str
    element: int
    number: int
    around: dict[str, Any] | None
    name: str


class _Kind(NamedTuple):
    """What an outline has of one kind of entries, in the order of the walk.

    `number` is the place of the kind in `IndexEntries`.
    `frame` are the shared entries, with a None for each step. `is_regular`: each step adds
    no more than one, and no two add the same.
    """

    number: int
    frame: tuple[Any, ...]
    places: tuple[int, ...]
    steps: tuple[_Step, ...]
    is_regular: bool


class Outline:
    """What one form says to one index.

    `shared` is what its resources all say; `identifiers` are those of its tokens that are
    identifiers.
    """

    def __init__(self, frames: Sequence[Sequence[Any]], texts: tuple[TextEntry, ...]) -> None:
        kinds = [_kind(number, frame) for number, frame in enumerate(frames)]
        self._filled = tuple(kind for kind in kinds if kind.steps)
        shared = [_distinct(e for e in kind.frame if e is not None) for kind in kinds]
        self.shared = IndexEntries(*shared, texts)  # type: ignore[call-arg] # of every kind
        self.identifiers = tuple(token for token in self.shared.tokens if token.is_identifier)

    def entries(self, values: Sequence[str | Decimal]) -> OutlinedEntries:
        """The entries of the resource whose gaps are filled by `values`."""
        every: list[Any] = list(self.shared)
        own: list[Any] = list(_NONE)
        for number, frame, places, steps, is_regular in self._filled:
            added: list[Any] = []
            add = added.append
            # As `_run`, whose call would be a tenth of the price of indexing.
            for extract, parameter, element, gap, around, name in steps:
                value = values[gap] if around is None else {**around, name: values[gap]}
                extract(value, add, parameter, element)
            if is_regular and len(added) == len(steps):
                filled = list(frame)
                for place, entry in zip(places, added, strict=True):
                    filled[place] = entry
                every[number] = tuple(filled)
                own[number] = added
            else:
                every[number] = whole = _distinct(_in_order(frame, steps, values))
                own[number] = [entry for entry in whole if entry not in self.shared[number]]
        found: OutlinedEntries = _new(OutlinedEntries, every)
        found.outline = self
        found.own = _new(IndexEntries, own)
        return found


def outline(
    form: Form,
    values: Sequence[str | Decimal],
    walk: Callable[[Resource], Iterable[Found]],
    texts: TextReader,
) -> Outline | None:
    """The outline of `form`, of whose resources `values` make one; None if it has none.

    `walk` must choose its elements by their names alone.
    """
    marks = [_mark(number, value) for number, value in enumerate(values)]
    frames: list[list[Any]] = [[] for name in IndexEntries._fields if name != "texts"]
    for found in walk(form.fill(marks)):
        frame = frames[found.kind]
        if _has_gap(found.value):
            step = _step(found, frame.append)
            if step is None:
                return None
            if step.number >= 0:
                frame.append(step)
        else:
            found.extract(found.value, frame.append, found.parameter, found.element)
    plain = form.fill(values)
    renamed = form.fill([f"gap {n}" if type(v) is str else v for n, v in enumerate(values)])
    if texts.texts(plain) != texts.texts(renamed):
        return None
    return Outline(frames, texts.entries(plain))


def _kind(number: int, frame: Sequence[Any]) -> _Kind:
    steps = tuple(part for part in frame if isinstance(part, _Step))
    places = tuple(n for n, part in enumerate(frame) if isinstance(part, _Step))
    shared = [part for part in frame if not isinstance(part, _Step)]
    names = {(step.parameter, step.element) for step in steps}
    is_regular = (
        len(names) == len(steps)
        and all(is_single(step.extract, step.around or {}) for step in steps)
        and not any((entry.parameter, entry.element) in names for entry in shared)
        and len(set(shared)) == len(shared)
    )
    framed = tuple(None if isinstance(part, _Step) else part for part in frame)
    return _Kind(number, framed, places, steps, is_regular)


def _run(step: _Step, values: Sequence[str | Decimal], add: Callable[[Any], None]) -> None:
    extract, parameter, element, number, around, name = step
    value: Any = values[number]
    if around is not None:
        value = {**around, name: value}
    extract(value, add, parameter, element)


def _in_order(
    frame: Iterable[Any], steps: Iterable[_Step], values: Sequence[str | Decimal]
) -> Iterator[Any]:
    """Shared and own entries as the walk comes by them."""
    remaining = iter(steps)
    for entry in frame:
        if entry is not None:
            yield entry
            continue
        added: list[Any] = []
        _run(next(remaining), values, added.append)
        yield from added


def _distinct(entries: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(entries))


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
    extract, _, value, parameter, element = found
    if isinstance(value, _Text | _Number):
        return _Step(extract, parameter, element, value.number, None, "")
    read: list[int] = []
    entries: list[Any] = []
    extract(_Watched(value, read), entries.append, parameter, element)
    if not read:
        for entry in entries:
            add(entry)
        return _Step(extract, parameter, element, -1, None, "")
    names = [name for name, part in value.items() if isinstance(part, _Text | _Number)]
    if len(names) != 1 or set(read) != {value[names[0]].number}:
        return None
    # What else is in it with a gap is not read, so it need not be there.
    around = {name: part for name, part in value.items() if not _has_gap(part)}
    number = value[names[0]].number
    return _Step(extract, parameter, element, number, around, names[0])
