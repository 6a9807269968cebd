"""Codes that a search names without listing them: `:in`, `:not-in`, `:above`, `:below`.

https://hl7.org/fhir/R4/search.html#modifiers. The parser asks the terminology, so a store
is given nothing but codes.
"""

from collections.abc import Iterable

from fhir_server.core import reference
from fhir_server.core.search.parameter import SearchParameter, SearchParameters
from fhir_server.core.search.query import TokenValue
from fhir_server.core.search.values import ValueReader, unescape
from fhir_server.core.terminology.terminology import Terminology
from fhir_server.errors import InvalidSearch


class CodeReader:
    """Reads what token parameters are compared with."""

    def __init__(
        self, parameters: SearchParameters, values: ValueReader, terminology: Terminology
    ) -> None:
        self._parameters = parameters
        self._values = values
        self._terminology = terminology

    def tokens(self, parameter: SearchParameter, name: str, text: str) -> tuple[TokenValue, ...]:
        """`system|code`; where a bare code implies the system also without it."""
        return self._with_implied(parameter, (self._values.token(name, text),))

    def in_value_set(
        self, parameter: SearchParameter, name: str, text: str
    ) -> tuple[TokenValue, ...]:
        """The codes of the value set at the URL `text`, or of ``ValueSet/id``.

        Raises:
            NotLoaded: the set has to be looked for first.
            InvalidSearch: there is none, or its codes cannot be told.
        """
        url = reference.within(unescape(text), self._values.base_url)
        if not url:
            raise InvalidSearch(f"{name}: expected the URL of a value set")
        codes = self._terminology.codes(url)
        found = [TokenValue(system, None) for system in sorted(codes.systems)]
        found += [TokenValue(system, code) for system, code in sorted(codes.single)]
        return self._with_implied(parameter, found)

    def below(self, parameter: SearchParameter, name: str, text: str) -> tuple[TokenValue, ...]:
        """A code and those that it subsumes. Raises as `in_value_set`."""
        system, code = self._one(name, text)
        found = sorted(self._terminology.below(system, code))
        return self._with_implied(parameter, [TokenValue(system, each) for each in found])

    def above(self, parameter: SearchParameter, name: str, text: str) -> tuple[TokenValue, ...]:
        """A code and those that subsume it. Raises as `in_value_set`."""
        system, code = self._one(name, text)
        found = sorted(self._terminology.above(system, code))
        return self._with_implied(parameter, [TokenValue(system, each) for each in found])

    def _one(self, name: str, text: str) -> tuple[str, str]:
        value = self._values.token(name, text)
        if not value.system or not value.code:
            raise InvalidSearch(f"{name}: expected system|code")
        return value.system, value.code

    def _with_implied(
        self, parameter: SearchParameter, values: Iterable[TokenValue]
    ) -> tuple[TokenValue, ...]:
        found = dict.fromkeys(values)
        if any(system for system, _ in found):
            implied = self._parameters.implied_systems(parameter)
            if implied:
                found |= {TokenValue("", code): None for system, code in found if system in implied}
        return tuple(found)
