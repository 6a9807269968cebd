"""transaction: all entries of a Bundle, or none of them.

Deletions come first, then creates, updates and reads, whatever the order of the entries;
the answers keep the order of the request. https://hl7.org/fhir/R4/http.html#transaction
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fhir_server.core import links
from fhir_server.core.bundle_request import parse_entries
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.errors import MultipleMatches, NotFound
from fhir_server.interactions import (
    conditional_delete,
    create,
    delete,
    transaction_patches,
    update,
)
from fhir_server.interactions.condition import Condition, find_matches
from fhir_server.interactions.conditional_update import choose_key
from fhir_server.interactions.context import Context
from fhir_server.interactions.entry_faults import overlap, placed
from fhir_server.interactions.entry_result import EntryResult, Found, perform_reading
from fhir_server.interactions.read import check_present
from fhir_server.interactions.transaction_plan import (
    Creation,
    Deletion,
    Plan,
    Reading,
    Update,
    make_plan,
)
from fhir_server.interactions.transaction_references import resolve
from fhir_server.interactions.written import Written
from fhir_server.store.protocol import Transaction

# Understanding a large Bundle takes longer than other requests should wait.
_APART_FROM_ENTRIES = 20

Results = list[EntryResult | None]


async def transaction(
    ctx: Context, bundle: Resource, *, is_strict: bool = False
) -> tuple[EntryResult, ...]:
    """Carry out a transaction Bundle; what became of each entry, in their order.

    Raises:
        FhirError: the first fault, with the path of its entry; nothing was stored.
    """
    entries = parse_entries(bundle, ctx.base_url, ctx.limits.bundle_entries)
    if len(entries) < _APART_FROM_ENTRIES:
        plan = make_plan(ctx, entries)
    else:
        plan = await asyncio.to_thread(make_plan, ctx, entries)
    await _check_readings(ctx, plan.readings, is_strict=is_strict)
    results = await ctx.store.commit(lambda tx: _decide(ctx, plan, tx))
    for reading in plan.readings:
        if results[reading.entry.position] is None:
            with placed(reading.entry.position):
                results[reading.entry.position] = await perform_reading(
                    ctx, reading.entry, is_strict=is_strict
                )
    return tuple(result for result in results if result is not None)


async def _check_readings(ctx: Context, readings: Iterable[Reading], *, is_strict: bool) -> None:
    # What cannot be answered must fail before anything is stored. It is asked again
    # behind the commit, when it sees what the transaction wrote.
    for reading in readings:
        if reading.key is None:
            with placed(reading.entry.position):
                await perform_reading(ctx, reading.entry, is_strict=is_strict)


def _decide(ctx: Context, plan: Plan, tx: Transaction) -> Results:
    results: Results = [None] * plan.size
    touched = _delete(plan.deletions, ctx.limits.deletions, tx, results)
    settled = _settle(plan, tx, results, touched)
    patched = transaction_patches.settle(plan.patches, tx, touched)
    writes = settled.writes
    if settled.moved:
        writes = [w._replace(resource=links.move(w.resource, settled.moved)) for w in writes]
    for write in writes:
        if write.position not in plan.references:
            _put(write, tx, results)
    if plan.references:
        # Resolved behind the other writes: one may mean what this transaction made.
        named = resolve([r for refs in plan.references.values() for r in refs], tx)
        for write in writes:
            if write.position in plan.references:
                resource = links.replace_references(write.resource, named)
                _put(write._replace(resource=resource), tx, results)
    if patched:
        transaction_patches.perform(ctx, plan, patched, settled.moved, tx, results)
    for position, earlier in settled.repeated.items():
        created = results[earlier]
        if isinstance(created, Written):
            results[position] = Written("matched", created.version)
    for reading in plan.readings:
        if reading.key is not None:
            with placed(reading.entry.position):
                results[reading.entry.position] = Found(_read(ctx, reading.key, tx))
    return results


def _delete(
    deletions: Iterable[Deletion], limit: int, tx: Transaction, results: Results
) -> set[ResourceKey]:
    """The keys that were to be deleted."""
    touched: set[ResourceKey] = set()
    for position, target, if_match in deletions:
        with placed(position):
            if isinstance(target, Condition):
                each = conditional_delete.decide(target, limit, if_match)(tx)
                keys = [written.version.key for written in each if written.version is not None]
                results[position] = conditional_delete.together(each)
            else:
                keys = [target]
                results[position] = delete.decide(target, if_match)(tx)
            if not touched.isdisjoint(keys):
                raise overlap(position)
            touched.update(keys)
    return touched


class _Settled(NamedTuple):
    """What is written under which key, now that the conditions have been looked up.

    `moved` maps the keys that were planned to what they have become. `repeated` are
    creations whose condition an earlier one has too: they find what that one makes.
    """

    writes: list[Creation | Update]
    moved: dict[str, str]
    repeated: dict[int, int]


def _settle(plan: Plan, tx: Transaction, results: Results, touched: set[ResourceKey]) -> _Settled:
    conditional: list[Creation | Update] = [*plan.creations, *plan.updates]
    matches = find_matches(tx, (w.condition for w in conditional if w.condition is not None))
    settled = _Settled([], {}, {})
    first: dict[Condition, Creation] = {}
    for creation in plan.creations:
        condition = creation.condition
        found = _match(matches, creation)
        if found is not None:
            settled.moved[str(creation.key)] = str(found)
            results[creation.position] = Written("matched", tx.read(found))
        elif condition is not None and condition in first:
            settled.moved[str(creation.key)] = str(first[condition].key)
            settled.repeated[creation.position] = first[condition].position
        else:
            settled.writes.append(creation)
            if condition is not None:
                first[condition] = creation
    for update_ in plan.updates:
        with placed(update_.position):
            found = _match(matches, update_)
            settled_update = _settle_update(update_, found, tx)
            if settled_update.key in touched or update_.condition in first:
                raise overlap(update_.position)
        touched.add(settled_update.key)
        settled.writes.append(settled_update)
        if settled_update.key != update_.key:
            settled.moved[str(update_.key)] = str(settled_update.key)
    return settled


def _match(
    matches: Mapping[Condition, tuple[ResourceKey, ...]], write: Creation | Update
) -> ResourceKey | None:
    if write.condition is None:
        return None
    found = matches[write.condition]
    if len(found) > 1:
        with placed(write.position):
            raise MultipleMatches("more than one resource matches the condition")
    return found[0] if found else None


def _settle_update(update_: Update, found: ResourceKey | None, tx: Transaction) -> Update:
    if update_.condition is None:
        return update_
    new_id = update_.key.resource_id
    key = choose_key(tx, update_.condition, found, update_.resource, new_id)
    return update_._replace(key=key, resource={**update_.resource, "id": key.resource_id})


def _put(write: Creation | Update, tx: Transaction, results: Results) -> None:
    with placed(write.position):
        if isinstance(write, Creation):
            results[write.position] = create.decide(write.key, write.resource)(tx)
        else:
            results[write.position] = update.decide(
                write.key, write.resource, write.if_match, write.if_none_match
            )(tx)


def _read(ctx: Context, key: ResourceKey, tx: Transaction) -> Version:
    version = tx.read(key) or ctx.shipped.get(key)
    if version is None:
        raise NotFound(f"{key} is not known")
    return check_present(version)
