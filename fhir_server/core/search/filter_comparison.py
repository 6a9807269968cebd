"""Comparisons of `_filter`: what an operator asks of a parameter, by its type.

https://hl7.org/fhir/R4/search_filter.html#ops
"""

from collections.abc import Callable, Mapping

from fhir_server.core.search.codes import CodeReader
from fhir_server.core.search.parameter import SearchParameter, SearchType
from fhir_server.core.search.query import Clause, Criterion, MissingValue, Not, Prefix, Value
from fhir_server.core.search.values import ValueReader
from fhir_server.errors import InvalidSearch

_PREFIXES = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})
_OF_STRINGS = {"eq": "equal", "ne": "unequal", "co": "contains", "sw": "", "ew": "ends"}
_ORDERED: Mapping[SearchType, Callable[[ValueReader, str, str], Value]] = {
    SearchType.DATE: ValueReader.date,
    SearchType.NUMBER: ValueReader.number,
    SearchType.QUANTITY: ValueReader.quantity,
}


def criterion(
    values: ValueReader, codes: CodeReader, parameter: SearchParameter, operator: str, value: str
) -> Criterion:
    """`parameter operator value`.

    Raises:
        InvalidSearch: the operator means nothing for the parameter, or the value.
    """
    name = parameter.code
    if operator == "pr" and parameter.type not in (SearchType.COMPOSITE, SearchType.SPECIAL):
        if value not in ("true", "false"):
            raise InvalidSearch(f"_filter: {name} pr expects true or false")
        return Clause(parameter, "missing", (MissingValue(value == "false"),))
    # The grammar has no escapes: what is special elsewhere stands for itself here.
    text = value.replace("\\", "\\\\")
    match parameter.type:
        case SearchType.STRING if operator in _OF_STRINGS:
            return Clause(parameter, _OF_STRINGS[operator], (values.string(name, text),))
        case SearchType.DATE if operator == "po":
            found = values.date(name, text)
            if found.prefix is Prefix.EQ:
                return Clause(parameter, "", (found._replace(prefix=Prefix.AP),))
        case (SearchType.DATE | SearchType.NUMBER | SearchType.QUANTITY) as ordered if (
            operator in _PREFIXES
        ):
            return Clause(parameter, "", (_ORDERED[ordered](values, name, operator + text),))
        case SearchType.TOKEN:
            return _coded(codes, parameter, operator, text)
        case SearchType.REFERENCE if operator in ("eq", "re"):
            return Clause(parameter, "", values.reference(name, text, parameter.target_types, None))
        case SearchType.URI if operator == "eq":
            return Clause(parameter, "", (values.uri(name, text),))
        case SearchType.URI if operator == "ss":
            return Clause(parameter, "below", (values.uri(name, text),))
    raise InvalidSearch(f"_filter: {name} cannot be compared by {operator}, or not with that value")


def _coded(codes: CodeReader, parameter: SearchParameter, operator: str, text: str) -> Criterion:
    name = parameter.code
    if operator == "ne":
        found = codes.tokens(parameter, name, text)
        if name == "_id":
            return Not(Clause(parameter, "", found))
        return Clause(parameter, "unequal", found)
    reads = {
        "eq": codes.tokens,
        "in": codes.in_value_set,
        # The value subsumes what is found: that stands below it.
        "ss": codes.below,
        "sb": codes.above,
    }
    if operator not in reads:
        raise InvalidSearch(f"_filter: {name} cannot be compared by {operator}")
    return Clause(parameter, "", reads[operator](parameter, name, text))
