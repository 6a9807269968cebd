"""The patches of a transaction: applied to what is current where it commits.

https://hl7.org/fhir/R4/http.html#trules
"""

from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from typing import NamedTuple

from fhir_server.core import links
from fhir_server.core.identity import ResourceKey
from fhir_server.core.patch.budget import Budget
from fhir_server.core.patch.patch import Patch
from fhir_server.core.resource_json import Resource
from fhir_server.errors import NotFound
from fhir_server.interactions.condition import Condition, find_match
from fhir_server.interactions.context import Context
from fhir_server.interactions.entry_faults import overlap, placed
from fhir_server.interactions.entry_result import EntryResult
from fhir_server.interactions.patch import apply, put
from fhir_server.interactions.read import check_present
from fhir_server.interactions.transaction_plan import Patching, Plan, check_linked, references_of
from fhir_server.interactions.transaction_references import resolve
from fhir_server.interactions.update import check_preconditions
from fhir_server.store.protocol import Transaction

# For all patches of one transaction together: it holds up whoever else commits.
_STEPS = 2_000_000


class SettledPatch(NamedTuple):
    """A patch, and the key that it is for."""

    key: ResourceKey
    patching: Patching


def settle(
    patches: Iterable[Patching], tx: Transaction, touched: set[ResourceKey]
) -> list[SettledPatch]:
    """What each patch is for. Asked before anything is written; `touched` grows.

    Raises:
        NotFound, MultipleMatches: a condition does not name one resource.
        InvalidRequest: an earlier entry is about the same resource.
    """
    settled = []
    for patching in patches:
        with placed(patching.position):
            target = patching.target
            key = find_match(tx, target) if isinstance(target, Condition) else target
            if key is None:
                raise NotFound("no resource matches the condition")
            if key in touched:
                raise overlap(patching.position)
            touched.add(key)
            settled.append(SettledPatch(key, patching))
    return settled


def perform(
    ctx: Context,
    plan: Plan,
    patches: Sequence[SettledPatch],
    moved: Mapping[str, str],
    tx: Transaction,
    results: MutableSequence[EntryResult | None],
) -> None:
    """Apply `patches` behind the other writes; `moved` as in the transaction."""
    # Only a urn can be meant for this Bundle: a relative reference may have been stored before.
    targets = {u: moved.get(k, k) for u, k in plan.targets.items() if u.startswith("urn:")}
    budget = Budget(_STEPS)
    for key, patching in patches:
        with placed(patching.position):
            current = tx.read(key)
            if current is None:
                raise NotFound(f"{key} is not known")
            check_present(current)
            check_preconditions(key, current, patching.if_match, patching.if_none_match)
            change = _linking(ctx, patching, targets, tx)
            resource = apply(ctx, current, change, budget).resource
            results[patching.position] = put(tx, current, resource)


def _linking(
    ctx: Context, patching: Patching, targets: Mapping[str, str], tx: Transaction
) -> Patch:
    """The patch with its references to other entries, and conditional ones, followed."""

    def change(resource: Resource, budget: Budget) -> Resource:
        patched = patching.change.change(resource, budget)
        if targets:
            patched = links.follow(patched, targets, None)
        known = {urn for urn, _ in links.urn_references(resource, "")}
        check_linked(patched, patching.position, known)
        if references := references_of(ctx, patched, patching.position):
            patched = links.replace_references(patched, resolve(references, tx))
        return patched

    return patching.change._replace(change=change)
