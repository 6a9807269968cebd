"""`fhir-server pseudonyms`: who a pseudonym is, for whoever holds the key and says why."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from fhir_server.app import Components, open_components
from fhir_server.cli import start_up
from fhir_server.cli.audit import operator
from fhir_server.cli.moving import check_store_is_there
from fhir_server.cli.start_up import StartUpError
from fhir_server.core.identity import ResourceKey
from fhir_server.core.security import audit_record
from fhir_server.core.security.audit_record import AuditRecord, Touched
from fhir_server.privacy import open_keys
from fhir_server.store.trail import TrailEntry

app = typer.Typer(help="Pseudonyms of patients.", no_args_is_help=True)
_stdout = Console(soft_wrap=True, highlight=False)


@app.callback()
def _pseudonyms() -> None:
    """Pseudonyms of patients."""


@app.command()
def reveal(
    recipient: Annotated[str, typer.Argument(help="Who knows the patient by the pseudonym.")],
    pseudonym: Annotated[str, typer.Argument(help="The id of the Patient at the recipient.")],
    reason: Annotated[str, typer.Option(help="Why; it goes on the patient's access list.")],
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
) -> None:
    """Tell whose a pseudonym is. It is on record before it is told."""
    with start_up.told_in_one_line():
        if not reason.strip():
            raise ValueError("--reason: say why")
        settings = start_up.read_settings(**({} if store is None else {"store": store}))
        check_store_is_there(settings)
        keys = open_keys(settings)
        try:
            found = keys.patient(recipient, pseudonym)
        finally:
            keys.close()
        components = open_components(settings)
        asyncio.run(_record(components, recipient, pseudonym, reason.strip(), found))
        if found is None:
            raise StartUpError(f"{recipient} knows nobody by that pseudonym")
    _stdout.print(str(found), markup=False)


async def _record(
    components: Components,
    recipient: str,
    pseudonym: str,
    reason: str,
    found: ResourceKey | None,
) -> None:
    """An attempt in vain goes on record too."""
    record = AuditRecord(
        "pseudonym-reveal",
        "R",
        outcome="4" if found is None else "0",
        asker=operator(),
        request=f"pseudonyms reveal {recipient} {pseudonym}",
        reason=reason,
        touched=() if found is None else (Touched(str(found)),),
    )
    entry = TrailEntry(audit_record.format(record), audit_record.patients(record))
    try:
        await components.store.commit(lambda tx: tx.record([entry]))
    finally:
        await components.store.close()
