"""The command line: every command of `fhir-server`.

Exit codes: 0 fine, 1 something failed (said on stderr), 2 wrong usage.
"""

import typer

from fhir_server.cli import (
    audit,
    clients,
    deliveries,
    gateways,
    mappings,
    pseudonyms,
    readings,
    registrations,
    staff,
    terminology,
)
from fhir_server.cli.backup import backup
from fhir_server.cli.check_store import check_store
from fhir_server.cli.deliver import deliver
from fhir_server.cli.demo import demo
from fhir_server.cli.export import export
from fhir_server.cli.import_ import import_
from fhir_server.cli.listen import listen
from fhir_server.cli.reindex import reindex
from fhir_server.cli.serve import serve
from fhir_server.cli.simulate import simulate

app = typer.Typer(
    name="fhir-server",
    help="FHIR R4 server for personal medical assistants.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals can hold a patient's data
)
app.command()(serve)
app.command()(deliver)
app.command()(listen)
app.add_typer(readings.app, name="readings")
app.add_typer(mappings.app, name="mappings")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(terminology.app, name="terminology")
app.add_typer(clients.app, name="clients")
app.add_typer(gateways.app, name="gateways")
app.add_typer(staff.app, name="staff")
app.add_typer(registrations.app, name="registrations")
app.add_typer(audit.app, name="audit")
app.add_typer(pseudonyms.app, name="pseudonyms")
app.command("check-store")(check_store)
app.command()(reindex)
app.command()(backup)
app.command("export")(export)
app.command("import")(import_)
app.command()(demo)
app.command()(simulate)
