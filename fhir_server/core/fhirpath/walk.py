"""Many paths in one function: a resource is walked once for all of them.

Paths that begin alike share their first steps, so `Observation.code` is looked up once
for every parameter that reads it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import Expression, FhirPathError
from fhir_server.core.fhirpath.path import (
    Computed,
    Field,
    Filter,
    OfResource,
    Path,
    Step,
    is_primitive,
    resolve,
)
from fhir_server.core.fhirpath.source import NAMES, Writer


class Visit(NamedTuple):
    """What to do with each value at the end of `path`.

    It becomes ``function(value, sink, argument, n)``: `function` and `sink` are names that
    the walk is given, n counts the repetitions of `within`, steps that `path` begins with,
    and is 0 where nothing in them repeats.
    """

    path: Path
    function: str
    sink: str
    argument: str
    within: tuple[Step, ...] = ()


def compile_walk(
    visits: Iterable[Visit],
    types: ElementTypes,
    resource_type: str,
    prologue: Iterable[str],
    result: str,
    names: Mapping[str, Any],
) -> Callable[[Any], Any]:
    """A function of a resource that makes all `visits` and returns the expression `result`.

    `prologue` are statements at its start; `names` is what `function`, `prologue` and
    `result` name.

    Raises:
        FhirPathError: the paths are too deep to compile.
    """
    writer = _Walk(types, resource_type)
    try:
        source = writer.write(visits, prologue, result)
        namespace: dict[str, Any] = {"__builtins__": {}, **NAMES, **names}
        exec(compile(source, f"<search parameters of {resource_type}>", "exec"), namespace)  # noqa: S102
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise FhirPathError("the expression is too deep to compile") from error
    walk: Callable[[Any], Any] = namespace["walk"]
    return walk


def compile_expression(
    expression: Expression, types: ElementTypes, type_name: str
) -> Callable[[Any], list[tuple[str, Any]]]:
    """A function of a resource or element that gives what `expression` finds, with types.

    Raises:
        FhirPathError: it names what the type does not have, or is too deep.
    """

    def add(value: Any, found: list[tuple[str, Any]], type_name: str, _: int) -> None:
        found.append((type_name, value))

    visits = [
        Visit(path, "add", "found", path.type_name)
        for path in resolve(expression, types, type_name, type_name)
    ]
    return compile_walk(visits, types, type_name, ("found = []",), "found", {"add": add})


class _Node:
    """A place that paths come by: where they go on, and what is done there."""

    def __init__(self) -> None:
        self.children: dict[Step, _Node] = {}
        self.visits: list[Visit] = []
        self.counter: str | None = None

    def child(self, step: Step) -> "_Node":
        return self.children.setdefault(step, _Node())


class _Walk:
    def __init__(self, types: ElementTypes, resource_type: str) -> None:
        self._writer = Writer(types, resource_type)
        self._lines: list[str] = []

    def write(self, visits: Iterable[Visit], prologue: Iterable[str], result: str) -> str:
        root = _Node()
        counters: list[str] = []
        for visit in visits:
            node = root
            for step in visit.path.steps:
                node = node.child(step)
            node.visits.append(visit)
            if any(isinstance(s, Field) and s.is_list for s in visit.within):
                node = root
                for step in visit.within:
                    node = node.child(step)
                if node.counter is None:
                    node.counter = f"n{len(counters)}"
                    counters.append(node.counter)
        self._line(0, "def walk(root):")
        for statement in prologue:
            self._line(1, statement)
        for counter in counters:
            self._line(1, f"{counter} = -1")
        self._enter(root, (), "root", 1, {})
        self._line(1, f"return {result}")
        return "\n".join(self._lines)

    def _line(self, depth: int, text: str) -> None:
        self._lines.append(" " * depth + text)

    def _enter(
        self,
        node: _Node,
        steps: tuple[Step, ...],
        focus: str,
        depth: int,
        counters: dict[tuple[Step, ...], str],
    ) -> None:
        if node.counter is not None:
            self._line(depth, f"{node.counter} += 1")
            counters = {**counters, steps: node.counter}
        for visit in node.visits:
            count = counters.get(visit.within, "0")
            self._line(
                depth, f"{visit.function}({focus}, {visit.sink}, {visit.argument!r}, {count})"
            )
        for step, child in node.children.items():
            self._step(step, child, (*steps, step), focus, depth, counters)

    def _step(
        self,
        step: Step,
        child: _Node,
        steps: tuple[Step, ...],
        focus: str,
        depth: int,
        counters: dict[tuple[Step, ...], str],
    ) -> None:
        match step:
            case Field(name, type_name, is_list, index):
                value = self._writer.variable()
                self._line(depth, f"{value} = {focus}.get({name!r})")
                self._line(depth, f"if {value} is not None:")
                depth += 1
                if is_list:
                    item = self._writer.variable()
                    part = value if index is None else f"{value}[{index}:{index + 1}]"
                    self._line(depth, f"for {item} in {part}:")
                    depth += 1
                    if is_primitive(type_name):
                        self._line(depth, f"if {item} is None: continue")
                    value = item
            case Filter(condition, type_name):
                value = focus
                test = self._writer.condition(condition, type_name, focus)
                self._line(depth, f"if {test}:")
                depth += 1
            case OfResource(resource_type):
                value = focus
                self._line(depth, f"if {focus}.get('resourceType') == {resource_type!r}:")
                depth += 1
            case Computed(expression, type_name):
                value = self._writer.variable()
                truth = self._writer.computed(expression, type_name, focus)
                self._line(depth, f"{value} = {truth}")
                self._line(depth, f"if {value} is not None:")
                depth += 1
        self._enter(child, steps, value, depth, counters)
