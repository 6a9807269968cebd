"""A mapping file as plain values that still know their line: YAML 1.2, and so JSON too.

Numbers keep their digits (`Decimal`), a key that stands twice is a fault, and every key
is text, so that ``0: mg/dL`` in YAML and ``"0": "mg/dL"`` in JSON mean the same.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
_TAG = "tag:yaml.org,2002:"

# An alias that repeats its target, nested a few times, grows without bound.
_MAX_NODES = 100_000
_MAX_DEPTH = 100


class Position(NamedTuple):
    """A place in a file; both count from 1."""

    line: int
    column: int


class Fault(NamedTuple):
    """What is wrong with a file, and where."""

    position: Position
    reason: str


class Document(NamedTuple):
    """The content of a file and where each part of it stands."""

    value: Any
    positions: Mapping[Path, Position]

    def at(self, path: Path) -> Position:
        """Where `path` stands, or the nearest part around it that exists."""
        while path not in self.positions:
            if not path:
                return Position(1, 1)
            path = path[:-1]
        return self.positions[path]


def parse(text: str) -> tuple[Document | None, tuple[Fault, ...]]:
    """The document and what is wrong with its syntax; None where nothing can be read."""
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
        return None, (Fault(position, f"not YAML: {error.problem or error.context}"),)
    except (YAMLError, ValueError, RecursionError) as error:
        return None, (Fault(Position(1, 1), f"not YAML: {type(error).__name__}"),)
    if node is None:
        return None, (Fault(Position(1, 1), "the file is empty"),)
    reader = _Reader()
    value = reader.read(node, ())
    return Document(value, reader.positions), tuple(reader.faults)


class _Reader:
    def __init__(self) -> None:
        self.positions: dict[Path, Position] = {}
        self.faults: list[Fault] = []

    def read(self, node: Node, path: Path) -> Any:
        self.positions.setdefault(path, _position(node))
        if len(self.positions) > _MAX_NODES or len(path) > _MAX_DEPTH:
            self._refuse(_position(node))
            return None
        if isinstance(node, MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.read(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._read_scalar(str(node.tag), str(node.value), _position(node))

    def _refuse(self, position: Position) -> None:
        fault = Fault(position, "the file is too large, or nested too deeply")
        if not any(known.reason == fault.reason for known in self.faults):
            self.faults.append(fault)

    def _read_mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.faults.append(Fault(_position(key_node), "a key must be a word"))
                continue
            key = str(key_node.value)
            if key in found:
                self.faults.append(Fault(_position(key_node), f"`{key}` stands here twice"))
            self.positions[(*path, key)] = _position(key_node)
            found[key] = self.read(value_node, (*path, key))
        return found

    def _read_scalar(self, tag: str, text: str, position: Position) -> Any:
        match tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" if _INT.match(text):
                return int(text) if len(text) <= 30 else Decimal(text)
            case "float" if _FLOAT.match(text):
                return Decimal(text)
            case "int" | "float":
                self.faults.append(Fault(position, "a number is written with digits only"))
                return None
            case _:
                return text


def _position(node: Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)
