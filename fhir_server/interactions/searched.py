"""Searched: the types that a search is about, and what limits them beside its parameters."""

from collections.abc import Callable
from typing import NamedTuple

from fhir_server.core.query_string import Params
from fhir_server.core.search.query import Criterion


def _unlimited(_resource_type: str, _own: Params) -> tuple[Criterion, ...]:
    return ()


class Searched(NamedTuple):
    """What stands before the `?` of a search.

    `path` is relative to the base, "" for all of it. `_type` may choose among the
    `resource_types` where `is_open`; it may name those in `beside`, which are no matches.
    `within` gives the criteria that each type obeys. It is given those parameters that
    are in `own`: they are no search parameters.
    """

    path: str
    resource_types: tuple[str, ...]
    is_open: bool = False
    within: Callable[[str, Params], tuple[Criterion, ...]] = _unlimited
    default_page_size: int | None = None
    own: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()
