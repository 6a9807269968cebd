"""Privacy composed: what is on record, and what is left out for whom, put before a store."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.security import subscriber
from fhir_server.core.security.deidentify import Masks
from fhir_server.core.security.deidentify_policy import DeidentificationPolicy, read_policy
from fhir_server.core.version import Version
from fhir_server.definitions import Definitions
from fhir_server.errors import DeliveryWithheld
from fhir_server.operations.audit_journal import AuditJournal
from fhir_server.operations.audited_store import AuditedStore
from fhir_server.operations.depersonalized_store import DepersonalizedStore, deidentified
from fhir_server.operations.judged_store import JudgedStore, Judging
from fhir_server.operations.verify_trail import check_key
from fhir_server.outbox.mask import Mask
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


class Recipients:
    """All who are given de-identified resources, by how this server knows them."""

    def __init__(self, settings: Settings, types: ElementTypes) -> None:
        """Read the policies.

        Raises:
            ValueError: a policy or the key means nothing, or two policies name one of them.
            StoreUnavailable: the keys are away.
        """
        policies = [
            read_policy(name, values, types) for name, values in settings.deidentification.items()
        ]
        self.clients = _by_name("client", ((p, p.clients) for p in policies))
        self._adapters = _by_name("adapter", ((p, p.adapters) for p in policies))
        self._subscriptions = _by_name("subscription", ((p, p.subscriptions) for p in policies))
        if unknown := self._adapters.keys() - settings.adapters.keys():
            raise ValueError(f"deidentification: no adapter is called {', '.join(sorted(unknown))}")
        self._types = types
        self.keys = open_keys(settings) if policies else None
        self._masks = {policy.recipient: self._mask(policy) for policy in policies}

    @property
    def is_subscriber_masked(self) -> bool:
        """Whether a Subscription may be somebody's who has a policy."""
        return bool(self.clients or self._subscriptions)

    def of_adapter(self, name: str) -> Mask | None:
        """Through what the adapter of the settings tells; None: as it is."""
        policy = self._adapters.get(name)
        return None if policy is None else self._masks[policy.recipient]

    def of_subscription(self, subscription: Version) -> Mask | None:
        """Through what a Subscription is told; None: as it is.

        Raises:
            DeliveryWithheld: its client may ask only by pseudonyms, and nobody has looked
                whether its criteria do; or two policies are for it.
        """
        resource = subscription.resource()
        channel = resource.get("channel")
        endpoint = str(channel.get("endpoint", "")) if isinstance(channel, dict) else ""
        found = {
            policy.recipient
            for named, policy in self._subscriptions.items()
            if named == subscription.key.resource_id or _begins(endpoint, named)
        }
        if len(found) > 1:
            raise DeliveryWithheld("two recipients' policies are for this Subscription")
        if found:
            return self._masks[found.pop()]
        principal = subscriber.read(resource)
        if principal is not None and principal.client_id in self.clients:
            raise DeliveryWithheld("the recipient's policy does not name this Subscription")
        return None

    def _mask(self, policy: DeidentificationPolicy) -> Mask:
        keys = self.keys
        assert keys is not None
        name = policy.recipient
        masks = keys.masks(name, policy.shift_days)
        return Mask(policy, masks, self._types, lambda pseudonym: keys.patient(name, pseudonym))


def _begins(endpoint: str, beginning: str) -> bool:
    """Whether a URL is `beginning` or goes on behind it: example.org is no example.org.evil."""
    if "://" not in beginning or not endpoint.startswith(beginning):
        return False
    return endpoint == beginning or beginning[-1] in "/?" or endpoint[len(beginning)] in "/?"


def _by_name(
    kind: str, named: Iterable[tuple[DeidentificationPolicy, frozenset[str]]]
) -> Mapping[str, DeidentificationPolicy]:
    policies: dict[str, DeidentificationPolicy] = {}
    for policy, names in named:
        for name in names:
            if policies.setdefault(name, policy) is not policy:
                raise ValueError(f"deidentification: {name} is a {kind} of two recipients")
    return policies


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
    settings: Settings,
    definitions: Definitions,
    store: OpenStore,
    judges: Iterable[Judging],
    recipients: Recipients,
) -> Store:
    """`store` as requests use it: judged, each access on record, as each client may see it."""
    recorded: Store = store
    if settings.is_audited:
        recorded = AuditedStore(store, definitions.parameters, lambda: store.definitions.indexer)
    judged = JudgedStore(recorded, *judges)
    if not recipients.clients or recipients.keys is None:
        return judged
    return DepersonalizedStore(
        judged, recipients.clients, recipients.keys, definitions.element_types
    )


async def open_journal(settings: Settings, store: OpenStore) -> AuditJournal | None:
    """Where requests that change nothing are put on record; None: nowhere.

    Raises:
        ValueError: the trail was made with another key.
    """
    if not settings.is_audited:
        return None
    await check_key(store.trail)
    return AuditJournal(store)
