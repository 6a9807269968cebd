"""Holding back: the quarantine Tasks of one decision, found or made in bulk."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import Fault, Gateway
from fhir_server.core.monitoring import quarantine
from fhir_server.core.monitoring.quarantine import LONGEST_INLINE, About, HeldBack
from fhir_server.core.version import Version, next_version
from fhir_server.interactions.context import Context
from fhir_server.store.protocol import Transaction


class Undecided(NamedTuple):
    """One outcome of the payload `raw` that has to wait, and why."""

    position: int
    raw: bytes
    ordinal: int
    fault: Fault
    about: About


class HoldBack:
    """Keeps undecided outcomes of payloads of one mapping and one gateway."""

    def __init__(self, tx: Transaction, ctx: Context, mapping: str, gateway: Gateway) -> None:
        self._tx = tx
        self._ctx = ctx
        self._mapping = mapping
        self._gateway = gateway

    def keep(self, undecided: Sequence[Undecided]) -> tuple[ResourceKey, ...]:
        """The Task of each: the one that it has already, or a new one."""
        names = self._names(undecided)
        found = self._tx.find("Task", names) if names else {}
        tasks: dict[tuple[str, str], ResourceKey] = {}
        for held, name in zip(undecided, names, strict=True):
            if name in tasks:
                continue
            if keys := found.get(name):
                tasks[name] = keys[0]
                self._renew(keys[0], held)
            else:
                tasks[name] = self._open(held, name)
        return tuple(tasks[name] for name in names)

    def _names(self, undecided: Iterable[Undecided]) -> list[tuple[str, str]]:
        digests: dict[int, bytes] = {}
        names = []
        for held in undecided:
            if held.position not in digests:
                digests[held.position] = quarantine.payload_digest(held.raw)
            names.append(
                quarantine.task_identifier(
                    self._mapping, digests[held.position], held.ordinal, self._gateway
                )
            )
        return names

    def _open(self, held: Undecided, name: tuple[str, str]) -> ResourceKey:
        kept = HeldBack(self._mapping, self._keep_payload(held), held.ordinal, self._gateway)
        task = quarantine.quarantine_task(kept, held.fault, held.about, name, self._tx.now)
        key = ResourceKey("Task", self._ctx.new_id())
        self._tx.put(*next_version(None, key, task, self._tx.now))
        return key

    def _keep_payload(self, held: Undecided) -> bytes | ResourceKey:
        raw = held.raw
        if len(raw) <= LONGEST_INLINE:
            return raw
        key, binary = quarantine.payload_binary(raw)
        current = self._tx.read(key)
        # Any client may write a Binary of that name: what came in is kept, not what is said of it.
        if (
            current is None
            or current.is_deletion
            or quarantine.parse_payload_binary(current.resource()) != raw
        ):
            self._tx.put(*next_version(current, key, binary, self._tx.now))
        return key

    def _renew(self, key: ResourceKey, held: Undecided) -> None:
        """Say the new reason, if it has become another; what a person closed stays closed."""
        current = self._tx.read(key)
        if current is None or current.is_deletion:
            return
        task = current.resource()
        if not quarantine.is_open(task) and task.get("status") != "completed":
            return
        if quarantine.is_reason(task, held.fault):
            return
        self._put(current, quarantine.with_reason(task, held.fault, held.about, self._tx.now))

    def _put(self, current: Version, task: dict[str, object]) -> None:
        self._tx.put(*next_version(current, current.key, task, self._tx.now))
