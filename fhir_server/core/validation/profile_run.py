"""Run: one check of one resource against profiles, and the faults that it finds."""

from collections.abc import Callable
from typing import Any, NamedTuple, Union

from fhir_server.core.resource_json import Resource
from fhir_server.core.validation.explain import MAX_ISSUES
from fhir_server.errors import Issue, Severity

Where = tuple[Union["Where", None], str | int]
"""A place: the one it is in, and the step from there; written out only for a fault."""


class Fault(NamedTuple):
    """One fault at a place; `rule` is what of the profile was broken."""

    code: str
    text: str
    where: Where
    profile: str
    rule: str
    severity: Severity


class Run:
    """What checks share. `root` is the resource around (FHIRPath's %resource)."""

    __slots__ = ("_has_siblings", "container", "depth", "faults", "root")

    def __init__(self, root: Resource, container: Resource | None = None) -> None:
        self.root = root
        self.container = root if container is None else container
        self.faults: list[Fault] = []
        self.depth = 0
        self._has_siblings: bool | None = None

    def add(
        self,
        code: str,
        text: str,
        where: Where,
        profile: str,
        rule: str,
        severity: Severity = "error",
    ) -> None:
        if len(self.faults) < MAX_ISSUES:
            self.faults.append(Fault(code, text, where, profile, rule, severity))

    def apart(self) -> "Run":
        """The same resource, for a question whose faults are only the answer to it."""
        other = Run(self.root, self.container)
        other.depth = self.depth
        return other

    @property
    def has_siblings(self) -> bool:
        """Whether a primitive in the resource has an id or extensions."""
        if self._has_siblings is None:
            self._has_siblings = _has_siblings(self.root)
        return self._has_siblings

    def has_errors(self) -> bool:
        return any(fault.severity == "error" for fault in self.faults)

    def issues(self) -> tuple[Issue, ...]:
        """Each fault once, though several profiles may say it of the same place."""
        found: dict[tuple[str, str, str], Issue] = {}
        for fault in self.faults:
            place = written(fault.where)
            text = f"{fault.text} ({fault.rule}, {fault.profile})"
            source = f"{fault.profile}#{fault.rule}"
            issue = Issue(fault.code, text, place, fault.severity, source)
            found.setdefault((place, fault.rule, fault.text), issue)
        return tuple(found.values())


Check = Callable[[Any, Any, Where, Run], None]
"""A value, what stands beside it as ``_name``, its place, and the run that gets the faults."""


def written(where: Where) -> str:
    """The place as FHIRPath: ``Observation.component[0].code``."""
    steps: list[str] = []
    at: Where | None = where
    while at is not None:
        at, step = at
        steps.append(f"[{step}]" if isinstance(step, int) else step)
    return "".join(reversed(steps))


def _has_siblings(resource: Resource) -> bool:
    waiting: list[dict[str, Any]] = [resource]
    while waiting:
        for name, part in waiting.pop().items():
            if name[:1] == "_":
                return True
            kind = type(part)
            if kind is dict:
                waiting.append(part)
            elif kind is list:
                waiting += [item for item in part if type(item) is dict]
    return False
