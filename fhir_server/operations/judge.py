"""The judge: what a decision has put of Observations, held against each patient's rules.

Most readings change nothing, and are seen to with what the process knows already: within
the limits while nothing is open, or beyond them while it is. Only where an episode may
begin, end or have been otherwise is the store asked, from the reading's moment on. So a
late or corrected reading ends in the same alerts as one that came in time (ADR 0020).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from typing import NamedTuple

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.alert import AlertRecord, parse_alert
from fhir_server.core.monitoring.assignment import Code, local_key
from fhir_server.core.monitoring.limits import MonitoringRules, goal_rules, plan_rules
from fhir_server.core.monitoring.measured import Measured, Number, in_unit, measured, subject_of
from fhir_server.core.monitoring.rule import Rule, RuleKind
from fhir_server.core.monitoring.watch_book import UNWATCHED, WATCHED, Watch, WatchBook
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.version import Version
from fhir_server.operations.followed_book import FollowedBook, referring
from fhir_server.operations.raise_alerts import Alerts, Span
from fhir_server.store.protocol import Transaction

_log = logging.getLogger(__name__)


class Change(NamedTuple):
    """What was put: the version that was there and the resource that is now, if any."""

    key: ResourceKey
    before: Version | None
    resource: Resource | Filled | None


class Judge:
    """One a process and store. `zone` is that of times without an offset."""

    looked_at = frozenset({"Observation", "DetectedIssue"})

    def __init__(
        self, rules: MonitoringRules, parameters: SearchParameters, zone: tzinfo, alerts: Alerts
    ) -> None:
        self._rules = rules
        self._parameters = parameters
        self._zone = zone
        self._alerts = alerts
        self._followed = FollowedBook(WatchBook, WATCHED)

    def judge(self, tx: Transaction, changes: Sequence[Change]) -> int:
        """Put the alerts that `changes` call for; the sequence to confirm. Only in a decision."""
        concerned: dict[ResourceKey, list[Change]] = {}
        for change in changes:
            if change.key.resource_type == "DetectedIssue":
                if isinstance(change.resource, dict):
                    self._alerts.follow(tx, change.key, change.resource)
                continue
            for patient in _patients(change):
                concerned.setdefault(patient, []).append(change)
        if not concerned:
            return 0
        book, sequence = self._followed.view(tx)
        self._fill(book, tx, [patient for patient in concerned if book.get(patient) is None])
        for patient, about in concerned.items():
            watch = book.get(patient)
            if watch is not None and watch.rules:
                for rule, span in self._doubtful(watch, _readings(patient, about)):
                    self._alerts.rejudge(
                        tx, patient, rule, watch.alerts.get(rule.rule_id, ()), span
                    )
        return sequence

    def confirm(self, sequence: int) -> None:
        """A decision whose judgement was as of `sequence` is committed."""
        self._followed.confirm(sequence)

    def _doubtful(
        self, watch: Watch, readings: Sequence[tuple[Measured, bool]]
    ) -> Iterator[tuple[Rule, Span]]:
        """The rules whose episodes may have changed, and where to look."""
        doubtful: dict[str, Rule] = {}
        for reading, is_new in readings:
            for number, rule in _judged_by(watch, reading):
                if is_new and not self._may_change(watch, reading, number, rule):
                    continue
                doubtful[rule.rule_id] = rule
        if not doubtful:
            return
        spans: dict[str, Span] = {}
        for reading, _ in readings:
            instant = reading.instant(self._zone)
            if instant is None:
                continue
            span = Span(instant, instant, frozenset(reading.codes))
            for _, rule in _judged_by(watch, reading):
                if rule.rule_id in doubtful and rule.period.start <= instant < rule.period.end:
                    known = spans.get(rule.rule_id)
                    spans[rule.rule_id] = span if known is None else known.over(span)
        for rule_id, span in spans.items():
            yield doubtful[rule_id], span

    def _may_change(self, watch: Watch, reading: Measured, number: Number, rule: Rule) -> bool:
        """Whether a new reading may begin, end or move an episode; where unsure, yes.

        Asked for every reading, so what says no soonest comes first.
        """
        if (value := in_unit(number.value, number.unit, rule.unit)) is None:
            return False
        alerts = watch.alerts.get(rule.rule_id)
        is_beyond = rule.is_beyond(value, number.comparator)
        if rule.kind is RuleKind.LIMIT and not alerts:
            return is_beyond
        if (instant := reading.instant(self._zone)) is None:
            return False
        if rule.kind is not RuleKind.LIMIT:
            newest = watch.newest.get(rule.rule_id)
            watch.newest[rule.rule_id] = instant if newest is None else max(newest, instant)
            if rule.kind is RuleKind.CHANGE or newest is None or instant <= newest:
                return True
        if not alerts:
            return is_beyond
        last = alerts[-1]
        if last.end is not None:
            return is_beyond or instant <= last.end
        # Beyond while it goes on says nothing new, and in between neither.
        return instant < last.start or (not is_beyond and rule.is_back(value, number.comparator))

    def _fill(self, book: WatchBook, tx: Transaction, patients: Sequence[ResourceKey]) -> None:
        """Learn the rules and alerts of `patients`."""
        if not patients:
            return
        rules: dict[ResourceKey, list[Rule]] = {patient: [] for patient in patients}
        alerts: dict[ResourceKey, list[AlertRecord]] = {patient: [] for patient in patients}
        sources: dict[ResourceKey, list[ResourceKey]] = {patient: [] for patient in patients}
        for version, patient, goal in self._about(tx, "Goal", "subject", sources):
            rules[patient] += self._of_goal(version.key, goal)
        for version, patient, plan in self._about(tx, "CarePlan", "subject", sources):
            rules[patient] += self._of_plan(version.key, plan, rules[patient])
        watched = {patient: sources[patient] for patient in patients if rules[patient]}
        for version, patient, issue in self._about(tx, "DetectedIssue", "patient", watched):
            if (alert := parse_alert(version.key, issue, self._zone)) is not None:
                alerts[patient].append(alert)
        for patient in patients:
            watch = UNWATCHED
            if rules[patient]:
                watch = Watch(_by_code(rules[patient]), _by_rule(alerts[patient]), {})
            book.learn(patient, watch, sources[patient])

    def _about(
        self,
        tx: Transaction,
        resource_type: str,
        code: str,
        sources: dict[ResourceKey, list[ResourceKey]],
    ) -> Iterator[tuple[Version, ResourceKey, Resource]]:
        """What refers to these patients by the parameter `code`, which is its element too."""
        for version in referring(tx, self._parameters, resource_type, code, sources):
            resource = version.resource()
            patient = local_key(resource.get(code), "Patient")
            if patient in sources:
                sources[patient].append(version.key)
                yield version, patient, resource

    def _of_goal(self, key: ResourceKey, goal: Resource) -> tuple[Rule, ...]:
        try:
            return tuple(goal_rules(key, goal, self._rules, self._zone))
        except (ValueError, TypeError, KeyError, ArithmeticError):
            # A reading is not refused because a Goal that was let in unchecked is odd.
            _log.warning("%s is not understood: no rule comes of it", key)
            return ()

    def _of_plan(
        self, key: ResourceKey, plan: Resource, of_goals: Sequence[Rule]
    ) -> tuple[Rule, ...]:
        try:
            return tuple(plan_rules(key, plan, self._rules, of_goals, self._zone))
        except (ValueError, TypeError, KeyError, ArithmeticError):
            _log.warning("%s is not understood: no rule comes of it", key)
            return ()


def _patients(change: Change) -> Iterable[ResourceKey]:
    """Whose measurement it was before and is now."""
    now = None if change.resource is None else subject_of(change.resource)
    if change.before is None or change.before.is_deletion:
        return () if now is None else (now,)
    return {key for key in (now, subject_of(change.before.resource())) if key is not None}


def _readings(patient: ResourceKey, changes: Iterable[Change]) -> list[tuple[Measured, bool]]:
    """What Observations said of `patient` before (False) and say now, where that is new (True)."""
    found: list[tuple[Measured, bool]] = []
    for change in changes:
        is_new = change.before is None or change.before.is_deletion
        # A correction is looked into, whatever it said and says now.
        before = None if change.before is None or is_new else change.before.resource()
        for resource in (before, change.resource):
            reading = None if resource is None else measured(resource)
            if reading is not None and reading.patient == patient:
                found.append((reading, is_new))
    return found


def _judged_by(watch: Watch, reading: Measured) -> Iterator[tuple[Number, Rule]]:
    """Each number with each rule about it, once.

    A reading has a code of each system, and so may a Goal.
    """
    for number in reading.numbers:
        found: dict[str, Rule] | tuple[Rule, ...] = ()
        for code in number.codes:
            if rules := watch.rules.get(code):
                found = {r.rule_id: r for r in (*_rules(found), *rules)} if found else rules
        for rule in _rules(found):
            yield number, rule


def _rules(found: dict[str, Rule] | tuple[Rule, ...]) -> Iterable[Rule]:
    return found.values() if isinstance(found, dict) else found


def _by_code(rules: Iterable[Rule]) -> dict[Code, tuple[Rule, ...]]:
    by_code: dict[Code, tuple[Rule, ...]] = {}
    for rule in rules:
        for code in rule.codes:
            by_code[code] = (*by_code.get(code, ()), rule)
    return by_code


def _by_rule(alerts: Iterable[AlertRecord]) -> dict[str, tuple[AlertRecord, ...]]:
    by_rule: dict[str, tuple[AlertRecord, ...]] = {}
    for alert in sorted(alerts, key=lambda alert: alert.start):
        by_rule[alert.rule_id] = (*by_rule.get(alert.rule_id, ()), alert)
    return by_rule
