"""Receivers: the adapters that the settings name, each under its recipient's policy, if any."""

from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from adapters.hospital.sink import from_settings as hospital
from adapters.insurer.sink import from_settings as insurer
from adapters.national_registry import sink as national_registry
from adapters.national_registry.documents import settings as document_registry
from adapters.national_registry.documents.sink import NAME as DOCUMENT_REGISTRY
from adapters.national_registry.port import Surroundings
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.outbox.mask import Mask
from fhir_server.outbox.masked_sink import DiscreetSink, GivenNames, MaskedSink
from fhir_server.outbox.records import StoreRecords
from fhir_server.outbox.section import split_begin
from fhir_server.outbox.sink import Access, Records, Sink, SinkFactory
from fhir_server.privacy import Recipients
from fhir_server.settings import Settings
from fhir_server.store.protocol import Outbox

REGISTRIES: dict[str, Callable[[Mapping[str, Any], Surroundings], Sink]] = {
    national_registry.NAME: national_registry.from_settings,
    DOCUMENT_REGISTRY: document_registry.from_settings,
}
SINKS: dict[str, SinkFactory] = {"hospital": hospital, "insurer": insurer}
MASKED_BY_THEMSELVES = frozenset({"insurer", national_registry.NAME})
"""They decide by what is stored, and mask what they send."""
ADAPTERS = "fhir_server.adapters"
"""The group of entry points by which other packages add to `SINKS`."""


class Receivers(NamedTuple):
    """What makes them: the settings, and what they may use of the server."""

    settings: Settings
    outbox: Outbox
    parameters: SearchParameters
    now: Callable[[], datetime]
    recipients: Recipients

    def sinks(self) -> tuple[Sink, ...]:
        """One for each adapter of the settings.

        Raises:
            ValueError: an adapter that is not known, a setting of it that is wrong, or a
                policy that cannot be applied to it.
        """
        return tuple(self._sink(name, section) for name, section in self.settings.adapters.items())

    def _sink(self, name: str, values: Mapping[str, Any]) -> Sink:
        section, _ = split_begin(name, values)
        mask = self.recipients.of_adapter(name)
        if mask is None:
            return self._made(name, section, None)
        if name == DOCUMENT_REGISTRY:
            raise ValueError(
                f"adapters.{name}: a signed document names its patient, a policy cannot apply"
            )
        names = GivenNames()
        mask = mask.remembering(names.remember)
        if name.partition(".")[0] in MASKED_BY_THEMSELVES:
            return DiscreetSink(self._made(name, section, mask), mask, names)
        access = self._access(None)

        def make(records: Records) -> Sink:
            return _factory(name)(section, access._replace(records=records))

        return MaskedSink(make, access.records, mask, names)

    def _made(self, name: str, section: Mapping[str, Any], mask: Mask | None) -> Sink:
        if name in REGISTRIES:
            return REGISTRIES[name](section, self._surroundings(mask))
        return _factory(name)(section, self._access(mask))

    def _access(self, mask: Mask | None) -> Access:
        settings = self.settings
        records = StoreRecords(
            self.outbox,
            self.parameters,
            self.now,
            base_url=settings.base_url,
            time_zone=settings.time_zone,
        )
        return Access(
            records,
            self.now,
            settings.allow_private_endpoints,
            settings.base_url,
            settings.time_zone,
            mask,
        )

    def _surroundings(self, mask: Mask | None) -> Surroundings:
        return Surroundings(
            read=self.outbox.read,
            state=self.outbox.state_of,
            commit=self.outbox.commit,
            parameters=self.parameters,
            now=self.now,
            time_zone=self.settings.time_zone,
            allow_private_endpoints=self.settings.allow_private_endpoints,
            mask=mask,
        )


def _factory(name: str) -> SinkFactory:
    """The adapter called `name`, or `kind.anything`: an insurer each for several insurers.

    Raises:
        ValueError: there is none, or its package cannot be loaded.
    """
    kind = name.partition(".")[0]
    if kind in SINKS:
        return SINKS[kind]
    found = {point.name: point for point in entry_points(group=ADAPTERS)}
    if kind not in found:
        known = ", ".join(sorted({*REGISTRIES, *SINKS, *found}))
        raise ValueError(f"no adapter is called {kind}; there are: {known}")
    try:
        factory: SinkFactory = found[kind].load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the adapter {kind} cannot be loaded: {error}") from None
    return factory
