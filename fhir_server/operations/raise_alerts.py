"""Alerts as they are stored: raised, moved, ended and withdrawn, and people told of them.

The readings from a moment on are judged anew and the alerts of that stretch made to agree,
until both tell the same again. Nobody is woken for what is over.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from fhir_server.core.date_range import LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import alert
from fhir_server.core.monitoring.alert import AlertRecord
from fhir_server.core.monitoring.assignment import Code, local_key
from fhir_server.core.monitoring.episode import Episode, Judged, Point, judge, resumed
from fhir_server.core.monitoring.measured import in_unit, measured
from fhir_server.core.monitoring.rule import Rule
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameter, SearchParameters
from fhir_server.core.search.query import (
    Clause,
    DateValue,
    Prefix,
    Query,
    ReferenceValue,
    SortKey,
    TokenValue,
)
from fhir_server.core.version import Version, next_version
from fhir_server.store.protocol import Transaction

# What is older wakes nobody: whoever was meant has felt it, or has looked by himself.
_FRESH = timedelta(hours=24)
_PAGE = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Span(NamedTuple):
    """The first and the last moment that changed, and the codes of the Observations there."""

    first: int
    last: int
    codes: frozenset[Code]

    def over(self, other: "Span") -> "Span":
        """Both, and what is between."""
        return Span(
            min(self.first, other.first), max(self.last, other.last), self.codes | other.codes
        )


class _Found(NamedTuple):
    """An episode, and the stored alert it is the continuation of."""

    record: AlertRecord | None
    episode: Episode


class Alerts:
    """What a judge decides, made of puts."""

    def __init__(
        self, parameters: SearchParameters, zone: tzinfo, new_id: Callable[[], str]
    ) -> None:
        self._parameters = parameters
        self._zone = zone
        self._new_id = new_id

    def rejudge(
        self,
        tx: Transaction,
        patient: ResourceKey,
        rule: Rule,
        alerts: Sequence[AlertRecord],
        span: Span,
    ) -> None:
        """Make the alerts of `rule` agree with the readings from `span` on.

        `alerts` are those of the patient and rule that are stored, in the order of their start.
        """
        before = next((a for a in reversed(alerts) if a.start < span.first), None)
        later = [a for a in alerts if a.start >= span.first]
        found, until = self._episodes(tx, patient, rule, before, later, span)
        unmatched = [a for a in later if a.start <= until]
        for record, episode in found:
            match = record
            if match is None:
                match = next((a for a in unmatched if _overlap(a, episode)), None)
                if match is not None:
                    unmatched.remove(match)
            if match is None:
                self._raise(tx, patient, rule, episode)
            else:
                self._move(tx, match, episode)
        for record in unmatched:
            self._withdraw(tx, record)

    def follow(self, tx: Transaction, key: ResourceKey, issue: Resource) -> None:
        """An alert was put, by whomever: what it was waiting for may have come."""
        if alert.is_alert(issue) and (
            alert.is_acknowledged(issue) or issue.get("status") != "preliminary"
        ):
            self._settle(tx, key)

    def _episodes(
        self,
        tx: Transaction,
        patient: ResourceKey,
        rule: Rule,
        before: AlertRecord | None,
        later: Sequence[AlertRecord],
        span: Span,
    ) -> tuple[list[_Found], int]:
        """The episodes from `span` on, and up to where they were looked for."""
        settled = span.last + rule.window + rule.cooldown
        stored = (*([before] if before else ()), *later)
        state = before and resumed(Episode(before.start, before.end, (), before.start), span.first)
        points: list[Point] = []
        query: Query | None = self._query(patient, rule, span)
        judged: list[Judged] = []
        while query is not None:
            page = tx.search(query)
            points += (point for version in page.versions for point in self._points(rule, version))
            points.sort()
            query = page.next and query._replace(after=page.next, as_of=page.as_of)
            judged = list(judge(rule, points, span.first, state))
            agree = next(
                (i for i, j in enumerate(judged) if _agrees(rule, j, stored, settled)), None
            )
            if agree is not None:
                found = _found(judged[: agree + 1], before, state)
                at = judged[agree].point.instant
                return [_as_stored(each, stored, at) for each in found], at
        return _found(judged, before, state), LATEST

    def _query(self, patient: ResourceKey, rule: Rule, span: Span) -> Query:
        first = max(span.first - rule.cooldown - rule.window, rule.period.start)
        codes = tuple(TokenValue(*code) for code in sorted(rule.codes | span.codes))
        range_ = DateRange(first, first + 1)
        return Query(
            "Observation",
            (
                Clause(self._parameter("patient"), "", (ReferenceValue(*patient),)),
                Clause(self._parameter("code"), "", codes),
                Clause(self._parameter("date"), "", (DateValue(Prefix.GE, range_),)),
            ),
            sort=(SortKey(self._parameter("date"), descending=False),),
            count=_PAGE,
        )

    def _parameter(self, code: str) -> SearchParameter:
        parameter = self._parameters.get("Observation", code)
        if parameter is None:
            raise LookupError(f"no search parameter Observation.{code}")
        return parameter

    def _points(self, rule: Rule, version: Version) -> Iterator[Point]:
        reading = measured(version.resource())
        instant = None if reading is None else reading.instant(self._zone)
        if reading is None or instant is None:
            return
        if not rule.period.start <= instant < rule.period.end:
            return
        for number in reading.numbers:
            if rule.codes.isdisjoint(number.codes):
                continue
            if (value := in_unit(number.value, number.unit, rule.unit)) is not None:
                yield Point(instant, version.key, value, number.comparator)

    def _raise(self, tx: Transaction, patient: ResourceKey, rule: Rule, episode: Episode) -> None:
        key = ResourceKey("DetectedIssue", self._new_id())
        issue = alert.new_alert(rule, patient, episode)
        tx.put(*next_version(None, key, issue, tx.now))
        age = tx.now - (_EPOCH + timedelta(microseconds=episode.newest))
        if episode.end is None and age < _FRESH:
            self._notify(tx, key, issue, rule)

    def _notify(self, tx: Transaction, key: ResourceKey, issue: Resource, rule: Rule) -> None:
        recipients: list[tuple[alert.Notified, Resource]] = [("patient", issue["patient"])]
        if (physician := self._physician(tx, rule, issue)) is not None:
            recipients.append(("physician", physician))
        for whom, recipient in recipients:
            notice = alert.notice(key, issue, whom, [recipient], tx.now)
            name = ResourceKey("Communication", self._new_id())
            tx.put(*next_version(None, name, notice, tx.now))

    def _physician(self, tx: Transaction, rule: Rule, issue: Resource) -> Resource | None:
        """Who set the Goal or wrote the plan, else the patient's own practitioner."""
        patient = local_key(issue["patient"], "Patient")
        for key in (rule.source, patient):
            version = None if key is None else tx.read(key)
            if version is not None and not version.is_deletion:
                physician = alert.physician_of(version.resource())
                if physician is not None:
                    return physician
        return None

    def _move(self, tx: Transaction, record: AlertRecord, episode: Episode) -> None:
        current = tx.read(record.key)
        if current is None or current.is_deletion:
            return
        issue = current.resource()
        changed = alert.with_episode(issue, episode)
        if changed != issue:
            tx.put(*next_version(current, record.key, changed, tx.now))
            if episode.end is not None:
                self._settle(tx, record.key)

    def _withdraw(self, tx: Transaction, record: AlertRecord) -> None:
        current = tx.read(record.key)
        if current is None or current.is_deletion:
            return
        changed = alert.withdrawn(current.resource())
        tx.put(*next_version(current, record.key, changed, tx.now))
        self._settle(tx, record.key)

    def _settle(self, tx: Transaction, key: ResourceKey) -> None:
        """Nobody has to be told any more: what is on its way is completed."""
        names = [
            (alert.NOTICE_SYSTEM, f"{key.resource_id}.{whom}")
            for whom in ("patient", "physician", "escalation")
        ]
        for keys in tx.find("Communication", names).values():
            for name in keys:
                current = tx.read(name)
                if current is None or current.is_deletion:
                    continue
                notice = current.resource()
                if notice.get("status") == "in-progress":
                    notice["status"] = "completed"
                    tx.put(*next_version(current, name, notice, tx.now))


def _overlap(record: AlertRecord, episode: Episode) -> bool:
    end = LATEST if episode.end is None else episode.end
    return record.start <= end and episode.start <= (LATEST if record.end is None else record.end)


def _agrees(rule: Rule, judged: Judged, stored: Sequence[AlertRecord], settled: int) -> bool:
    """Whether from this point on the stored alerts are right as they are."""
    instant = judged.point.instant
    if instant <= settled:
        return False
    ends = [judged.episode.end] if judged.episode is not None else []
    stored_ends = [a.end for a in stored if a.start <= instant]
    return _standing(rule, instant, ends) == _standing(rule, instant, stored_ends)


def _standing(rule: Rule, instant: int, ends: Sequence[int | None]) -> tuple[str, int]:
    """What the next reading's judgement depends on: it goes on, is just over, or nothing is."""
    if any(end is None or end > instant for end in ends):
        return "goes on", 0
    last = max((end for end in ends if end is not None), default=None)
    if last is not None and instant - last <= rule.cooldown:
        return "just over", last
    return "nothing", 0


def _as_stored(found: _Found, stored: Sequence[AlertRecord], instant: int) -> _Found:
    """An episode that goes on where judging stopped ends where the stored alert does."""
    if found.episode.end is not None:
        return found
    for record in stored:
        if record.start <= instant and (record.end is None or record.end > instant):
            return found._replace(episode=found.episode._replace(end=record.end))
    return found


def _found(
    judged: Sequence[Judged], before: AlertRecord | None, state: Episode | None
) -> list[_Found]:
    """Each episode in its last state; the first may continue the stored one."""
    found: list[_Found] = []
    if before is not None and state is not None:
        found.append(_Found(before, state))
    for each in judged:
        if each.episode is None:
            continue
        if each.is_new:
            found.append(_Found(None, each.episode))
        elif found:
            found[-1] = found[-1]._replace(episode=each.episode)
    return found
