"""Privacy composed: what is on record, and what is left out for whom, put before a store."""

from collections.abc import Iterable
from typing import NamedTuple

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.security.deidentify import Masks
from fhir_server.core.security.deidentify_policy import DeidentificationPolicy, read_policy
from fhir_server.core.version import Version
from fhir_server.definitions import Definitions
from fhir_server.operations.audit_journal import AuditJournal
from fhir_server.operations.audited_store import AuditedStore
from fhir_server.operations.depersonalized_store import DepersonalizedStore, deidentified
from fhir_server.operations.judged_store import JudgedStore, Judging
from fhir_server.operations.verify_trail import check_key
from fhir_server.pseudonyms.key_store import PseudonymKeys, parse_key
from fhir_server.settings import Settings
from fhir_server.store.open import OpenStore
from fhir_server.store.protocol import Store


class Recipient(NamedTuple):
    """One who is given de-identified resources."""

    policy: DeidentificationPolicy
    masks: Masks
    types: ElementTypes

    def give(self, version: Version) -> Version | None:
        """What they get of `version`; None: nothing. It may wait for the keys."""
        return deidentified(version, self.policy, self.masks, self.types)


def recipient_of(settings: Settings, definitions: Definitions, name: str) -> Recipient:
    """The recipient that the settings call `name`: for exports, and for what pushes to them.

    Raises:
        ValueError: there is none, or its policy or the key means nothing.
        StoreUnavailable: the keys are away.
    """
    if name not in settings.deidentification:
        known = ", ".join(sorted(settings.deidentification)) or "none"
        raise ValueError(f"no de-identification is set for {name}; there is: {known}")
    types = definitions.element_types
    policy = read_policy(name, settings.deidentification[name], types)
    return Recipient(policy, open_keys(settings).masks(name, policy.shift_days), types)


def open_keys(settings: Settings) -> PseudonymKeys:
    """The keys of pseudonyms.

    Raises:
        ValueError: the key from outside is missing, or another's.
        StoreUnavailable: they are away.
    """
    return PseudonymKeys(settings.pseudonyms, parse_key(settings.pseudonym_key))


def private(
    settings: Settings, definitions: Definitions, store: OpenStore, judges: Iterable[Judging]
) -> Store:
    """`store` as requests use it: judged, with every access on record, as each client may see it.

    Raises:
        ValueError: a policy or the key means nothing, or two policies name one client.
        StoreUnavailable: the keys are away.
    """
    recorded: Store = store
    if settings.is_audited:
        recorded = AuditedStore(store, definitions.parameters, lambda: store.definitions.indexer)
    return _depersonalized(settings, definitions, JudgedStore(recorded, *judges))


async def open_journal(settings: Settings, store: OpenStore) -> AuditJournal | None:
    """Where requests that change nothing are put on record; None: nowhere.

    Raises:
        ValueError: the trail was made with another key.
    """
    if not settings.is_audited:
        return None
    await check_key(store.trail)
    return AuditJournal(store)


def _depersonalized(settings: Settings, definitions: Definitions, store: Store) -> Store:
    policies: dict[str, DeidentificationPolicy] = {}
    for name, values in settings.deidentification.items():
        policy = read_policy(name, values, definitions.element_types)
        for client in policy.clients:
            if policies.setdefault(client, policy) is not policy:
                raise ValueError(f"deidentification: {client} is a client of two recipients")
    if not policies:
        return store
    return DepersonalizedStore(store, policies, open_keys(settings), definitions.element_types)
