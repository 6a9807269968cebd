"""What an export asks of the store, type by type, and what of the answers goes into its files.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

from collections.abc import Iterable, Iterator, Sequence

from fhir_server.core import subset
from fhir_server.core.bulk.job import ExportJob, Place
from fhir_server.core.bulk.request import TypeFilter
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import (
    AllOf,
    AnyOf,
    Clause,
    Criterion,
    Query,
    ReferenceValue,
    TokenValue,
)
from fhir_server.core.subset import Part
from fhir_server.core.version import Version, format_instant
from fhir_server.core.whom import patient_of
from fhir_server.interactions.context import Context
from fhir_server.interactions.terminology import with_terminology

PATIENT = "Patient"

_PATIENTS_AT_ONCE = 100
# By these a resource of any type says whom it is about.
_WHOM = frozenset({"patient", "subject"})


class ExportPlan:
    """Of one job; `patients` are the ids of those it is about, None for everyone's.

    `criteria` are those of each type, in the order of the job's types.
    """

    def __init__(
        self,
        job: ExportJob,
        patients: Sequence[str] | None,
        criteria: Sequence[Sequence[Criterion]],
    ) -> None:
        self._job = job
        self._criteria = criteria
        self._batches: list[Sequence[str]] | None = None
        self._batch_of: dict[str, int] = {}
        if patients is not None:
            size = _PATIENTS_AT_ONCE
            self._batches = [patients[i : i + size] for i in range(0, len(patients), size)]
            for number, batch in enumerate(self._batches):
                self._batch_of.update(dict.fromkeys(batch, number))

    def query(self, ctx: Context, place: Place, count: int) -> Query | None:
        """The page that begins at `place`; None where it asks for nobody's."""
        name = self._job.types[place.type]
        criteria = list(self._criteria[place.type])
        if self._batches is not None:
            if not self._batches:
                return None
            criteria.insert(0, _belonging(ctx, name, self._batches[place.patients]))
        return Query(
            name,
            tuple(criteria),
            count=count,
            after=place.cursor,
            as_of=self._job.as_of,
            restriction=ctx.principal.restriction,
        )

    def behind(self, place: Place) -> Place | None:
        """What follows when everything of a place was asked for; None: nothing does."""
        if self._batches is not None and place.patients + 1 < len(self._batches):
            return Place(type=place.type, patients=place.patients + 1)
        return self.next_type(place)

    def next_type(self, place: Place) -> Place | None:
        if place.type + 1 < len(self._job.types):
            return Place(type=place.type + 1)
        return Place("deleted") if self._job.request.since is not None else None

    def lines(self, ctx: Context, place: Place, versions: Iterable[Version]) -> list[bytes]:
        """What of a page goes into the file, each with its end of line."""
        name = self._job.types[place.type]
        wanted = {element for of, element in self._job.request.elements if of in ("", name)}
        part = Part(frozenset(wanted)) if wanted else None
        return [
            (body if part is None else subset.subset(body, part, ctx.element_types)) + b"\n"
            for version in versions
            if (body := version.body) is not None and self._holds(ctx, place, version)
        ]

    def concerns(self, ctx: Context, state: Version) -> bool:
        """Whether a state is of a resource that such an export is about."""
        if self._job.level == "system":
            return True
        found = set(_patients_of(ctx, state))
        return bool(found) if self._batches is None else not found.isdisjoint(self._batch_of)

    def _holds(self, ctx: Context, place: Place, version: Version) -> bool:
        """Whether it is in somebody's compartment, and was not found as an earlier one's."""
        if self._job.level == "system" or version.key.resource_type == PATIENT:
            return True
        if self._batches is None:
            return _is_a_patients(ctx, version)
        if place.patients == 0:
            return True
        numbers = [self._batch_of.get(each) for each in _patients_of(ctx, version)]
        return place.patients == min(n for n in (*numbers, place.patients) if n is not None)


async def criteria(ctx: Context, job: ExportJob) -> list[tuple[Criterion, ...]]:
    """What each type is limited by: `_since` and `_typeFilter`.

    Raises:
        InvalidSearch: a filter is none.
    """
    return [await _criteria_of(ctx, job, name) for name in job.types]


async def _criteria_of(ctx: Context, job: ExportJob, name: str) -> tuple[Criterion, ...]:
    found: list[Criterion] = []
    if job.request.since is not None:
        since = (("_lastUpdated", f"ge{format_instant(job.request.since)}"),)
        found += _parse(ctx, job, TypeFilter(name, since))
    filters = [each for each in job.request.filters if each.type == name]
    if filters:

        def read(ctx: Context) -> list[tuple[Criterion, ...]]:
            return [_parse(ctx, job, each) for each in filters]

        alternatives = await with_terminology(ctx, read)
        if len(alternatives) == 1:
            found += alternatives[0]
        else:
            found.append(AnyOf(tuple(AllOf(each) for each in alternatives)))
    return tuple(found)


def _parse(ctx: Context, job: ExportJob, each: TypeFilter) -> tuple[Criterion, ...]:
    return parse_criteria(
        each.type,
        each.params,
        ctx.parameters,
        base_url=job.base_url,
        time_zone=ctx.time_zone,
        now=job.at,
        terminology=ctx.terminology,
    )


def members(group: Resource, job: ExportJob) -> Iterator[str]:
    """The ids of the patients who were in a group when the export was asked for."""
    at = format_instant(job.at)
    for member in group.get("member") or ():
        entity = member.get("entity") or {}
        kind, _, name = str(entity.get("reference", "")).partition("/")
        ended = str((member.get("period") or {}).get("end", ""))
        # Dates are compared as far as they go: the last day of a membership is one of it.
        is_over = bool(ended) and ended < at[: len(ended)]
        if kind == PATIENT and name and not member.get("inactive") and not is_over:
            yield name


def _belonging(ctx: Context, resource_type: str, patients: Sequence[str]) -> Criterion:
    """What is in the compartment of one of `patients`.

    A Patient that only links to one of them is somebody else's record, and is not.
    """
    clauses: list[Criterion] = []
    for code in ctx.compartments.parameters(PATIENT, resource_type):
        parameter = ctx.parameters.get(resource_type, code)
        if parameter is None:
            continue
        if code == "_id":
            values = tuple(TokenValue(None, each) for each in patients)
            return Clause(parameter, "", values)
        refers = tuple(ReferenceValue(PATIENT, each) for each in patients)
        clauses.append(Clause(parameter, "", refers))
    return clauses[0] if len(clauses) == 1 else AnyOf(tuple(clauses))


def _is_a_patients(ctx: Context, version: Version) -> bool:
    body = version.body or b""
    if b'"Patient/' not in body:
        return False
    codes = ctx.compartments.parameters(PATIENT, version.key.resource_type)
    if not _WHOM.isdisjoint(codes) and patient_of(version.resource()):
        return True
    return any(_patients_of(ctx, version))


def _patients_of(ctx: Context, version: Version) -> Iterator[str]:
    """The ids of those in whose compartment a state is."""
    resource_type, resource_id = version.key
    if resource_type == PATIENT:
        yield resource_id
        return
    sources = {
        source.code
        for code in ctx.compartments.parameters(PATIENT, resource_type)
        if (parameter := ctx.parameters.get(resource_type, code)) is not None
        for source in parameter.sources
    }
    for entry in ctx.index(version.resource()).references:
        if entry.parameter in sources and entry.resource_type == PATIENT:
            yield entry.resource_id


def deletion_entry(key: ResourceKey) -> Resource:
    """An entry of a Bundle by which a client takes away what it has."""
    return {"request": {"method": "DELETE", "url": str(key)}}
