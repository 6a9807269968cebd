"""Profiles from StructureDefinitions: the snapshot, or the differential on the base's tree.

https://hl7.org/fhir/R4/elementdefinition.html#id. A differential is put on a copy of its
base's tree, element by element; so its snapshot comes into being.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

from fhir_server.core.resource_json import Resource
from fhir_server.core.validation.profile import (
    UNBOUNDED,
    Binding,
    Node,
    Profile,
    ProfileFault,
    Rule,
    Slicing,
    TypeRef,
)
from fhir_server.core.validation.type_rules import RESOURCE, TypeRules

_MOST_ELEMENTS = 10_000
_DEEPEST = 30
_STRENGTHS = ("required", "extensible")
_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."

FindProfile = Callable[[str], Profile | None]


def read(
    resource: Resource, rules: TypeRules, known: Mapping[str, frozenset[str]], find: FindProfile
) -> Profile:
    """The profile that a StructureDefinition says.

    `known` are the keys of R4's own invariants by element: those are checked anyway. `find`
    gives the profile that this one is derived from, None for one that is a type of R4.

    Raises:
        ProfileFault: it cannot be used.
    """
    url, type_name = resource.get("url"), resource.get("type")
    if not isinstance(url, str):
        raise ProfileFault("url: it has none, so nothing could claim it")
    if not isinstance(type_name, str) or not _is_type(rules, type_name):
        raise ProfileFault("type: it is no type of R4")
    try:
        root, elements = _start(resource, find)
        _check_elements(elements, type_name)
        reader = _Reader(root, rules, type_name, known)
        for element in elements:
            reader.add(element)
    except ProfileFault:
        raise
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise ProfileFault("an element is not what an ElementDefinition is") from error
    return Profile(url, str(resource.get("version", "")), type_name, root)


def _is_type(rules: TypeRules, name: str) -> bool:
    try:
        rules[name]
    except KeyError:
        return False
    return True


def _start(resource: Resource, find: FindProfile) -> tuple[Node, Sequence[Any]]:
    snapshot = (resource.get("snapshot") or {}).get("element")
    if snapshot:
        return Node(), snapshot
    base = resource.get("baseDefinition")
    if not isinstance(base, str):
        raise ProfileFault("baseDefinition: needed where there is no snapshot")
    parent = find(base)
    if parent is not None and parent.type_name != resource["type"]:
        raise ProfileFault("baseDefinition: it is a profile of another type")
    root = Node() if parent is None else deepcopy(parent.root)
    return root, (resource.get("differential") or {}).get("element") or ()


def _check_elements(elements: Sequence[Any], type_name: str) -> None:
    if len(elements) > _MOST_ELEMENTS:
        raise ProfileFault(f"it has more than {_MOST_ELEMENTS} elements")
    for element in elements:
        path = element["path"]
        if path.partition(".")[0] != type_name:
            raise ProfileFault("an element is not about the type of the profile")


class _Reader:
    """Puts elements on a tree. A path without slices means the slice that came last there."""

    def __init__(
        self, root: Node, rules: TypeRules, type_name: str, known: Mapping[str, frozenset[str]]
    ) -> None:
        self._root = root
        self._rules = rules
        self._type_name = type_name
        self._known = known
        self._last: dict[str, str] = {}

    def add(self, element: Mapping[str, Any]) -> None:
        identity = self._identity(element)
        steps = identity.split(".")
        if len(steps) > _DEEPEST:
            raise ProfileFault("an element is nested too deeply")
        node, type_name = self._root, self._type_name
        for step in steps[1:]:
            node, type_name = self._step(node, type_name, step, identity)
        self._put(node, element)

    def _identity(self, element: Mapping[str, Any]) -> str:
        """The id; where there is none, what it would be."""
        path: str = element["path"]
        if isinstance(element.get("id"), str) and element["id"].startswith(path.partition(".")[0]):
            return str(element["id"])
        # A differential may leave out the elements in between.
        above = path.rpartition(".")[0]
        while above and above not in self._last:
            above = above.rpartition(".")[0]
        found = self._last.get(above, "") + path[len(above) :]
        slice_name = element.get("sliceName")
        if slice_name:
            found += f":{slice_name}"
        self._last = {p: i for p, i in self._last.items() if not p.startswith(f"{path}.")}
        self._last[path] = found
        return found

    def _step(self, node: Node, type_name: str, step: str, identity: str) -> tuple[Node, str]:
        name, _, slice_name = step.partition(":")
        below = name.removesuffix("[x]")
        types: tuple[str, ...] = ()
        if type_name:
            rule = self._rules[type_name]
            element = next((e for e in rule.elements if e.name == below), None)
            if element is None and below in rule.properties:
                # "valueQuantity" is short for a slice of value[x].
                property_ = rule.properties[below]
                child = node.children.setdefault(property_.element.name, Node())
                found = child.slices.setdefault(below, Node())
                found.types = found.types or (TypeRef(property_.type_name),)
                child.slicing = child.slicing or Slicing((("type", "$this"),))
                return found, property_.type_name
            if element is None:
                raise ProfileFault(f"{identity[:200]}: {type_name} has no such element")
            types = element.types
        child = node.children.setdefault(below, Node())
        for part in _nested(slice_name):
            child = child.slices.setdefault(part, Node())
        return child, self._type_below(node.children[below], child, types)

    def _type_below(self, element: Node, child: Node, types: tuple[str, ...]) -> str:
        for said in (child.types, element.types):
            if said is not None and len(said) == 1 and types != ("Resource",):
                code = said[0].code
                # A backbone element's type is its path.
                return types[0] if len(types) == 1 and "." in types[0] else self._complex(code)
            if said is not None and len(said) == 1:
                return self._complex(said[0].code)
        if len(types) == 1 and types[0] != RESOURCE:
            return self._complex(types[0])
        return ""

    def _complex(self, code: str) -> str:
        return code if _is_type(self._rules, code) else ""

    def _put(self, node: Node, element: Mapping[str, Any]) -> None:
        if "min" in element:
            node.minimum = int(element["min"])
        if "max" in element:
            node.maximum = UNBOUNDED if element["max"] == "*" else int(element["max"])
        if element.get("type"):
            node.types = tuple(map(_type, element["type"]))
        for name, value in element.items():
            if name.startswith("fixed"):
                node.fixed = value
            elif name.startswith("pattern"):
                node.pattern = value
            elif name.startswith("minValue"):
                node.least = value
            elif name.startswith("maxValue"):
                node.greatest = value
        node.max_length = element.get("maxLength", node.max_length)
        binding = element.get("binding")
        if binding is not None:
            node.binding = None
            if binding.get("strength") in _STRENGTHS and binding.get("valueSet"):
                node.binding = Binding(binding["strength"], str(binding["valueSet"]))
        for constraint in element.get("constraint") or ():
            self._add_rule(node, constraint, element)
        node.is_must_support = element.get("mustSupport", node.is_must_support) is True
        slicing = element.get("slicing")
        if slicing is not None:
            node.slicing = Slicing(
                tuple((d["type"], d["path"]) for d in slicing.get("discriminator") or ()),
                slicing.get("rules", "open"),
                slicing.get("ordered") is True,
            )

    def _add_rule(
        self, node: Node, constraint: Mapping[str, Any], element: Mapping[str, Any]
    ) -> None:
        key, expression = constraint["key"], constraint.get("expression")
        if not expression or key in self._known.get("", ()):
            return
        base = (element.get("base") or {}).get("path", element["path"])
        if key in self._known.get(base, ()):
            return
        severity = cast(str, constraint.get("severity", "error"))
        node.rules[key] = Rule(key, severity, str(constraint.get("human", "")), expression)


def _nested(slice_name: str) -> list[str]:
    """The slices on the way to a slice of a slice: "a/b" is b within a."""
    parts = slice_name.split("/") if slice_name else []
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _type(said: Mapping[str, Any]) -> TypeRef:
    code = str(said["code"])
    if code.startswith(_SYSTEM_TYPE):
        code = code.removeprefix(_SYSTEM_TYPE).lower()
    return TypeRef(
        code,
        tuple(said.get("profile") or ()),
        tuple(said.get("targetProfile") or ()),
        tuple(said.get("aggregation") or ()),
    )
