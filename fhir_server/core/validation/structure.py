"""StructureValidator: whether a resource keeps R4's own rules for its type.

https://hl7.org/fhir/R4/validation.html. Profiles are checked beside it, not here.
"""

from typing import Any, NamedTuple

import jsonschema_rs

from fhir_server.core.resource_json import Resource
from fhir_server.core.validation import base_invariants, period, schema
from fhir_server.core.validation.explain import MAX_ISSUES, explain
from fhir_server.core.validation.type_rules import TypeRules
from fhir_server.errors import Issue

# A Bundle's entries are told one by one; converting them all twice would be waste.
_EXPLAINED_AT_ONCE = frozenset({"Bundle", "Parameters"})
_MAX_EMBEDDING = 8


class _Compiled(NamedTuple):
    """A type's schema, and the properties whose Periods it leaves open."""

    schema: jsonschema_rs.Validator
    periods: tuple[str, ...]


class StructureValidator:
    """Checks structure, required bindings, formats and the base invariants.

    A type is compiled when it is first met (some 30 ms); safe from any thread.
    """

    def __init__(self, rules: TypeRules) -> None:
        self._rules = rules
        self._invariants = base_invariants.build(rules)
        self._compiled: dict[str, _Compiled] = {}

    @property
    def resource_types(self) -> frozenset[str]:
        """Every resource type of R4 that can be stored."""
        return self._rules.resource_types

    def check(self, resource: Resource) -> tuple[Issue, ...]:
        """All faults; empty if there are none.

        The resources of a Bundle's entries and of Parameters are checked too. The list
        ends after 500 faults.
        """
        return tuple(self._check(resource, None, 0)[:MAX_ISSUES])

    def prepare(self, *resource_types: str) -> None:
        """Compile these types now rather than on their first resource."""
        for resource_type in resource_types:
            self._compile(resource_type)

    def _check(self, resource: Any, path: str | None, embedding: int) -> list[Issue]:
        if not isinstance(resource, dict):
            return [Issue("structure", "must be a JSON object (a resource)", path)]
        resource_type = resource.get("resourceType")
        if not isinstance(resource_type, str) or resource_type not in self._rules.resource_types:
            text = "resourceType must be a resource type of FHIR R4"
            return [Issue("structure", text, path or "Resource.resourceType")]
        if resource_type not in _EXPLAINED_AT_ONCE and self._is_plainly_good(
            resource, resource_type
        ):
            return []
        issues, embedded = explain(self._rules, self._invariants, resource)
        if path is not None:
            issues = [_below(path, resource_type, issue) for issue in issues]
        for where, item in embedded:
            inside = where if path is None else path + where[len(resource_type) :]
            if embedding >= _MAX_EMBEDDING:
                issues.append(Issue("structure", "resources are nested too deeply", inside))
            elif len(issues) < MAX_ISSUES:
                issues += self._check(item, inside, embedding + 1)
        return issues

    def _is_plainly_good(self, resource: Resource, resource_type: str) -> bool:
        compiled = self._compiled.get(resource_type) or self._compile(resource_type)
        try:
            if not compiled.schema.is_valid(resource):
                return False
        except ValueError:
            # Nested deeper than the library goes.
            return False
        return all(
            period.is_in_order(resource[name]) for name in compiled.periods if name in resource
        )

    def _compile(self, resource_type: str) -> _Compiled:
        # Two threads may both compile a type; the first one's is kept.
        return self._compiled.setdefault(
            resource_type,
            _Compiled(
                jsonschema_rs.Draft4Validator(
                    schema.build(self._rules, self._invariants, resource_type),
                    pattern_options=jsonschema_rs.RegexOptions(),
                    validate_formats=False,
                ),
                schema.unordered_periods(self._rules, resource_type),
            ),
        )


def _below(path: str, resource_type: str, issue: Issue) -> Issue:
    return issue._replace(expression=path + (issue.expression or "")[len(resource_type) :])
