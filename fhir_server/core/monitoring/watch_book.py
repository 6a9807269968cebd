"""The watch book: each patient's rules and alerts as far as they are known, and forgetting.

A patient it does not have is unknown to it, not unwatched. A copy is a thin layer over the
original, which it neither changes nor duplicates.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.alert import AlertRecord
from fhir_server.core.monitoring.assignment import Code, local_key
from fhir_server.core.monitoring.rule import Rule
from fhir_server.core.version import Version

WATCHED = ("Goal", "CarePlan", "DetectedIssue")

_SUBJECT = {"Goal": "subject", "CarePlan": "subject", "DetectedIssue": "patient"}


class Watch(NamedTuple):
    """One patient: rules by the codes they look at, alerts by rule in the order of their start.

    `newest` is, by rule, the latest reading it has looked at: a reading before that is late.
    It may grow without a commit: too late a moment costs a look, and no alert.
    """

    rules: Mapping[Code, tuple[Rule, ...]]
    alerts: Mapping[str, tuple[AlertRecord, ...]]
    newest: dict[str, int]


UNWATCHED = Watch({}, {}, {})


class WatchBook:
    """Watches by patient, in the order of being asked for."""

    def __init__(self, beneath: "WatchBook | None" = None) -> None:
        self._beneath = beneath
        self._watches: dict[ResourceKey, Watch] = {}
        self._forgotten: set[ResourceKey] = set()
        self._sources: dict[ResourceKey, ResourceKey] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def copy(self) -> "WatchBook":
        """One that can learn and forget without this one noticing."""
        return WatchBook(self)

    def get(self, patient: ResourceKey) -> Watch | None:
        """What is known of a patient; None if nothing is."""
        found = self._watches.pop(patient, None)
        if found is not None:
            self._watches[patient] = found
        if found is not None or self._beneath is None or patient in self._forgotten:
            return found
        return self._beneath.get(patient)

    def learn(self, patient: ResourceKey, watch: Watch, sources: Iterable[ResourceKey]) -> None:
        """Keep `watch`, which was made of `sources`."""
        self._watches[patient] = watch
        for source in sources:
            self._sources[source] = patient

    def trim(self, most: int) -> None:
        """Keep `most` patients, those that were asked for last."""
        beyond = max(0, len(self._watches) - most)
        self._watches = dict(islice(self._watches.items(), beyond, None))
        self._sources = {
            source: patient for source, patient in self._sources.items() if patient in self._watches
        }

    def forget(self, changed: Iterable[Version]) -> None:
        """Drop all that a change of these resources may have made untrue."""
        for version in changed:
            book: WatchBook | None = self
            while book is not None:
                if (patient := book._sources.get(version.key)) is not None:
                    self._drop(patient)
                book = book._beneath
            if not version.is_deletion:
                element = _SUBJECT[version.key.resource_type]
                if (subject := local_key(version.resource().get(element), "Patient")) is not None:
                    self._drop(subject)

    def _drop(self, patient: ResourceKey) -> None:
        self._watches.pop(patient, None)
        if self._beneath is not None:
            self._forgotten.add(patient)
