"""Words: what `_text` and `_content` find, and how a resource's texts become words.

https://hl7.org/fhir/R4/search.html#content. `_text` is about the narrative, `_content`
about every text of the resource, contained resources and extensions included. Codes, ids,
URIs and dates are no texts, nor are the values of identifiers: they have parameters of
their own.
"""

import re
from functools import lru_cache
from html import unescape
from typing import Any

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import TextEntry
from fhir_server.core.search.folding import fold
from fhir_server.core.search.parameter import SearchParameter, SearchType, Source

TEXT, CONTENT = "_text", "_content"
LONGEST_WORD = 64

_WORD = re.compile(r"[^\W_]+")
_MARKUP = re.compile(r"<!--.*?-->|<[^>]*>", re.DOTALL)
_TEXT_TYPES = frozenset({"string", "markdown"})
_NO_TEXTS = frozenset({("Identifier", "value"), ("Coding", "version"), ("Reference", "reference")})
# What repeats from reading to reading; longer texts would fill the memory.
_REPEATED_LENGTH = 1_000


def parameter(resource_type: str, code: str) -> SearchParameter:
    """`_text` or `_content` of a type."""
    return SearchParameter(resource_type, code, SearchType.SPECIAL, "", "", sources=(Source(code),))


def words(text: str) -> list[str]:
    """The words of `text` as they are compared: folded, of letters and digits."""
    return [word[:LONGEST_WORD] for word in _WORD.findall(fold(text))]


# What is at a JSON name: `_A_TEXT`, `_A_RESOURCE`, or an element with a plan of its own.
_Plan = dict[str, Any]
_A_TEXT: _Plan = {}
_A_RESOURCE: _Plan = {}


class TextReader:
    """Reads the texts of resources; safe to share between threads."""

    def __init__(self, types: ElementTypes) -> None:
        self._types = types
        self._plans: dict[str, _Plan] = {}

    def entries(self, resource: Resource) -> tuple[TextEntry, ...]:
        """What `resource` says, of each parameter at most one."""
        found = self.texts(resource)
        narrative = _narrative(resource)
        if not narrative:
            content = _distinct(tuple(found))
            return (TextEntry(CONTENT, content),) if content else ()
        told = _distinct((narrative,))
        content = _distinct((narrative, *found))
        return (
            (TextEntry(TEXT, told), TextEntry(CONTENT, content))
            if told
            else ((TextEntry(CONTENT, content),) if content else ())
        )

    def texts(self, resource: Resource) -> list[str]:
        """All texts of `resource` but its narrative, as they are written."""
        found: list[str] = []
        waiting: list[tuple[Any, _Plan]] = [(resource, self._plan(resource["resourceType"]))]
        for node, plan in waiting:
            for name, value in node.items():
                if name not in plan:
                    continue
                inside = plan[name]
                kind = type(value)
                if inside is _A_TEXT:
                    if kind is str:
                        found.append(value)
                    elif kind is list:
                        found += [item for item in value if type(item) is str]
                elif inside is _A_RESOURCE:
                    for item in value if kind is list else (value,):
                        if type(item) is dict:
                            waiting.append((item, self._plan_of(item)))
                elif kind is dict:
                    waiting.append((value, inside))
                elif kind is list:
                    waiting += [(item, inside) for item in value if type(item) is dict]
        return found

    def _plan_of(self, item: Any) -> "_Plan":
        resource_type = item.get("resourceType")
        return self._plan(resource_type) if type(resource_type) is str else {}

    def _plan(self, type_name: str) -> "_Plan":
        """By JSON name what a type's texts are, and the plans of what they may be in."""
        plan = self._plans.get(type_name)
        if plan is None:
            made: dict[str, _Plan] = {}
            plan = self._make(type_name, made)
            # Shared when all are whole: another thread may read at the same moment.
            self._plans.update(made)
        return plan

    def _make(self, type_name: str, made: dict[str, "_Plan"]) -> "_Plan":
        if type_name in made:
            return made[type_name]
        plan: _Plan = {}
        elements = self._types.elements(type_name).values()
        if elements:
            made[type_name] = plan
        for element in elements:
            for name, of_type in element.json_names():
                if of_type == "Resource":
                    plan[name] = _A_RESOURCE
                elif of_type in _TEXT_TYPES:
                    if name != "id" and (type_name, name) not in _NO_TEXTS:
                        plan[name] = _A_TEXT
                elif of_type != "Narrative" and not of_type[:1].islower():
                    plan[name] = self._make(of_type, made)
        return plan


def _narrative(resource: Resource) -> str:
    narrative = resource.get("text")
    markup = narrative.get("div") if type(narrative) is dict else None
    return unescape(_MARKUP.sub(" ", markup)) if type(markup) is str else ""


def _distinct(texts: tuple[str, ...]) -> tuple[str, ...]:
    is_short = len(texts) < 100 and sum(map(len, texts)) <= _REPEATED_LENGTH
    return _known(texts) if is_short else _sorted(texts)


def _sorted(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({word for text in texts for word in words(text)}))


_known = lru_cache(maxsize=8_192)(_sorted)
