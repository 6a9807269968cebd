"""Which sinks want a committed version, and in which group each sends it."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.core.whom import patient_of
from fhir_server.errors import StoreUnavailable
from fhir_server.outbox.sink import Sink
from fhir_server.store.protocol import Routed

_log = logging.getLogger(__name__)

Route = Callable[[Version], Sequence[Routed]]
Read = Callable[[ResourceKey, int | None], Version | None]


def route_to(
    sinks: Sequence[Sink],
    *others: Route,
    read: Read | None = None,
    begin: datetime | None = None,
) -> Route:
    """A route over the sinks' own `group` and `others`, for `Outbox.fan_out`.

    `read` tells what a deletion was about. What was committed before `begin` goes nowhere.

    Raises:
        ValueError: two sinks of one name: their deliveries could not be told apart.
    """
    names = [sink.name for sink in sinks]
    if len(set(names)) != len(names):
        raise ValueError(f"two sinks have the same name: {', '.join(sorted(names))}")

    def route(version: Version) -> Sequence[Routed]:
        if begin is not None and version.last_updated < begin:
            return ()
        routed = [
            Routed(sink.name, group)
            for sink in sinks
            if (group := _group(sink, version)) is not None
        ]
        for other in others:
            routed += other(version)
        if not routed:
            return ()
        patient = _patient(version, read)
        return [each._replace(patient=patient) for each in routed]

    return route


def _patient(version: Version, read: Read | None) -> str:
    if version.body is None:
        before = read(version.key, version.version_id - 1) if read else None
        if before is None or before.body is None:
            return ""
        version = before
    return patient_of(version.resource())


def _group(sink: Sink, version: Version) -> str | None:
    try:
        return sink.group(version)
    except StoreUnavailable:
        raise
    except Exception as error:  # one odd resource must not stop the rest, nor be lost
        _log.error(
            "a version could not be sorted",
            extra={
                "sink": sink.name,
                "key": str(version.key),
                "version_id": version.version_id,
                "error": type(error).__qualname__,
            },
        )
        return f"unsorted/{version.key}"
