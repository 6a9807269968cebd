"""Adapters under a recipient's policy: neither they nor the ledger join what it keeps apart."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock, local

from fhir_server.core import reference
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.errors import DeliveryDeferred, DeliveryRejected, DeliveryWithheld
from fhir_server.outbox.mask import NOTHING_LEFT, KeysAwayError, Mask
from fhir_server.outbox.sink import Attentive, Records, Sink

_KEPT = 100_000
_NAME = re.compile(r"[A-Za-z0-9\-.]{20,64}")


class GivenNames:
    """What a sink's recipient was given names for, in memory only: each name is made anew."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sources: OrderedDict[ResourceKey, ResourceKey] = OrderedDict()
        self._ids: dict[str, ResourceKey] = {}

    def remember(self, source: ResourceKey, given: ResourceKey) -> None:
        with self._lock:
            self._sources[given] = source
            self._sources.move_to_end(given)
            self._ids[given.resource_id] = given
            while len(self._sources) > _KEPT:
                forgotten, _ = self._sources.popitem(last=False)
                self._ids.pop(forgotten.resource_id, None)

    def source(self, given: ResourceKey) -> ResourceKey | None:
        with self._lock:
            return self._sources.get(given)

    def hide(self, text: str) -> str:
        """`text` without any name that was given: it is to stand beside the source's."""
        with self._lock:
            return _NAME.sub(lambda m: "(pseudonym)" if m[0] in self._ids else m[0], text)


class DiscreetSink:
    """A sink that masks what it sends by itself.

    What the recipient could compare with our ids (the idempotency key), and what the ledger
    would keep of theirs (the receipt, reasons), are replaced here.
    """

    def __init__(self, sink: Sink, mask: Mask, names: GivenNames) -> None:
        self._sink = sink
        self._mask = mask
        self._names = names

    @property
    def name(self) -> str:
        return self._sink.name

    @property
    def batch_size(self) -> int:
        return self._sink.batch_size

    def group(self, version: Version) -> str | None:
        return self._sink.group(version)

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        try:
            key = self._mask.digest(idempotency_key)
            receipt = self._deliver(versions, key)
            return f"{self._mask.recipient} {self._mask.digest(receipt)}"
        except KeysAwayError as error:
            raise DeliveryDeferred(str(error)) from None
        except (DeliveryDeferred, DeliveryRejected, DeliveryWithheld) as error:
            error.args = (self._names.hide(str(error)), *error.args[1:])
            raise

    def close(self) -> None:
        self._sink.close()

    def _deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        return self._sink.deliver(versions, idempotency_key)


class MaskedSink(DiscreetSink):
    """A sink that is shown masked versions and records only, whatever it does with them.

    Just what goes together is decided by what is stored: that stays here.
    """

    def __init__(
        self, make: Callable[[Records], Sink], records: Records, mask: Mask, names: GivenNames
    ) -> None:
        self._records = MaskedRecords(records, mask, names)
        super().__init__(make(self._records), mask, names)

    def group(self, version: Version) -> str | None:
        with self._records.unmasked():
            return self._sink.group(version)

    def attend(self) -> None:
        """What it does as time passes, if it does."""
        if isinstance(self._sink, Attentive):
            self._sink.attend()

    def _deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        given = [self._records.masked(version) for version in versions]
        told = [version for version in given if version is not None]
        if len(told) < len(given):
            left = {version.sequence for version in told}
            raise DeliveryWithheld(
                NOTHING_LEFT, {v.sequence for v in versions if v.sequence not in left}
            )
        return self._sink.deliver(told, idempotency_key)


class MaskedRecords:
    """`Records` as a recipient would know them; by the names that were given, and no others."""

    def __init__(self, records: Records, mask: Mask, names: GivenNames) -> None:
        self._records = records
        self._mask = mask
        self._names = names
        self._here = local()

    @contextmanager
    def unmasked(self) -> Iterator[None]:
        """For this thread, for so long, the records as they are."""
        self._here.is_unmasked = True
        try:
            yield
        finally:
            self._here.is_unmasked = False

    def read(self, key: ResourceKey, version_id: int | None = None) -> Version | None:
        if self._is_unmasked:
            return self._records.read(key, version_id)
        source = self._source(key)
        version = None if source is None else self._records.read(source, version_id)
        return None if version is None else self.masked(version)

    def search(
        self, resource_type: str, params: Sequence[tuple[str, str]], limit: int
    ) -> Iterator[Resource]:
        if self._is_unmasked:
            yield from self._records.search(resource_type, params, limit)
            return
        meant = [(name, self._meant(resource_type, name, value)) for name, value in params]
        for resource in self._records.search(resource_type, meant, limit):
            given = self._mask.resource(resource)
            if given is not None:
                yield given

    def newer(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        newest, versions = self._records.newer(after, resource_types)
        if self._is_unmasked:
            return newest, versions
        given = (self.masked(version) for version in versions)
        return newest, tuple(version for version in given if version is not None)

    def answer(self, request: Version, resources: Sequence[Resource]) -> bool:
        raise DeliveryWithheld("what is de-identified is not written beside its source")

    def masked(self, version: Version) -> Version | None:
        before = None
        if version.body is None and version.version_id > 1:
            before = self._records.read(version.key, version.version_id - 1)
        return self._mask.version(version, before)

    @property
    def _is_unmasked(self) -> bool:
        return getattr(self._here, "is_unmasked", False)

    def _source(self, key: ResourceKey) -> ResourceKey | None:
        source = self._names.source(key)
        if source is None and key.resource_type == "Patient":
            source = self._mask.patient(key.resource_id)
        return source

    def _meant(self, resource_type: str, name: str, value: str) -> str:
        """A search parameter's value with our ids in place of the names that were given."""

        def meant(part: str) -> str:
            found = reference.parse(f"{resource_type}/{part}" if name == "_id" else part)
            if found is None or not found.is_local:
                return part
            source = self._source(ResourceKey(found.resource_type, found.resource_id))
            if source is None:
                return part
            return source.resource_id if name == "_id" else str(source)

        return ",".join(meant(part) for part in value.split(","))
