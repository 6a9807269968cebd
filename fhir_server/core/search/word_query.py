r"""Word queries: the text behind `_text=` and `_content=`.

https://hl7.org/fhir/R4/search.html#content leaves the syntax to the server. Here: words,
all of which must be there, in any order; AND, OR and NOT in capitals or (for the first
two) not; parentheses; `word*` for what begins so. AND binds closer than OR.
"""

import re

from fhir_server.core.search.parameter import SearchParameter
from fhir_server.core.search.query import AllOf, AnyOf, Clause, Criterion, Not, TextValue
from fhir_server.core.search.words import words
from fhir_server.errors import InvalidSearch

_MOST_PARTS = 64
_DEEPEST = 20
_PART = re.compile(r'[()"]|[^\s()"]+')


def parse(parameter: SearchParameter, text: str) -> Criterion:
    """What `text` asks of the words of `parameter`.

    Raises:
        InvalidSearch: it cannot be read, or asks for nothing.
    """
    parts = _PART.findall(text)
    if len(parts) > _MOST_PARTS:
        raise InvalidSearch(f"{parameter.code}: more than {_MOST_PARTS} words")
    reader = _Reader(parameter, parts)
    found = reader.any_of(0)
    if reader.next is not None:
        raise InvalidSearch(f"{parameter.code}: a parenthesis is closed that was not opened")
    return found


class _Reader:
    def __init__(self, parameter: SearchParameter, parts: list[str]) -> None:
        self._parameter = parameter
        self._parts = parts
        self._at = 0

    @property
    def next(self) -> str | None:
        return self._parts[self._at] if self._at < len(self._parts) else None

    def any_of(self, depth: int) -> Criterion:
        if depth > _DEEPEST:
            raise self._fault("the parentheses are too deep")
        found = [self._all_of(depth)]
        while self.next in ("OR", "or"):
            self._at += 1
            found.append(self._all_of(depth))
        return found[0] if len(found) == 1 else AnyOf(tuple(found))

    def _all_of(self, depth: int) -> Criterion:
        found: list[Criterion] = []
        is_expected = True
        while is_expected or self.next not in (None, ")", "OR", "or"):
            if self.next in ("AND", "and") and not is_expected:
                self._at += 1
                is_expected = True
                continue
            found += self._part(depth)
            is_expected = False
        if not found:
            raise self._fault("there is no word to search for")
        return found[0] if len(found) == 1 else AllOf(tuple(found))

    def _part(self, depth: int) -> list[Criterion]:
        part = self.next
        self._at += 1
        match part:
            case None | ")" | "AND" | "OR":
                raise self._fault("a word is missing")
            case '"':
                raise self._fault("phrases are not supported; search for their words")
            case "(":
                found = self.any_of(depth + 1)
                if self.next != ")":
                    raise self._fault("a parenthesis is not closed")
                self._at += 1
                return [found]
            case "NOT":
                return [Not(self._one(self._part(depth)))]
        is_prefix = part.endswith("*")
        found_words = words(part)
        return [
            Clause(
                self._parameter,
                "",
                (TextValue(word, is_prefix and number == len(found_words) - 1),),
            )
            for number, word in enumerate(found_words)
        ]

    def _one(self, criteria: list[Criterion]) -> Criterion:
        if not criteria:
            raise self._fault("a word is missing")
        return criteria[0] if len(criteria) == 1 else AllOf(tuple(criteria))

    def _fault(self, text: str) -> InvalidSearch:
        return InvalidSearch(f"{self._parameter.code}: {text}")
