"""`fhir-server staff`: the people who sign in here."""

from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fhir_server.cli.clients import check_scopes
from fhir_server.cli.registry import StoreOption, registrations
from fhir_server.core.security.registration import Account, parse_key
from fhir_server.security.passwords import hash_password

app = typer.Typer(help="Accounts of people who sign in to apps; patients' own, too.")

_out = Console(soft_wrap=True, highlight=False)

Name = Annotated[str, typer.Argument(help="What they sign in with: letters, digits, - and _.")]
Password = Annotated[
    str,
    typer.Option(
        prompt=True, confirmation_prompt=True, hide_input=True, envvar="FHIR_SERVER_NEW_PASSWORD"
    ),
]
_PEOPLE = ("Practitioner", "Patient", "RelatedPerson", "Person")


@app.command()
def add(
    name: Name,
    fhir_user: Annotated[str, typer.Option(help="Who they are: Practitioner/1, Patient/2.")],
    password: Password,
    scopes: Annotated[
        str, typer.Option(help="The most that an app may do in their name. By who they are.")
    ] = "",
    role: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    purpose: Annotated[
        list[str] | None, typer.Option(help="What they ask for data for, as TREAT.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Register a person."""
    with registrations(store) as found:
        key = parse_key(fhir_user)
        if key is None or key.resource_type not in _PEOPLE:
            raise ValueError(f"--fhir-user: one of {', '.join(_PEOPLE)}, and an id")
        is_patient = key.resource_type == "Patient"
        scopes = scopes or ("patient/*.rs" if is_patient else "user/*.rs patient/*.rs")
        check_scopes(scopes)
        found.add(
            Account(
                name=name,
                password=hash_password(password),
                fhir_user=str(key),
                scopes=scopes,
                roles=tuple(role or ()),
                purposes=tuple(purpose or ()),
            )
        )
        _out.print(f"{name} is registered", markup=False)


@app.command("list")
def list_(store: StoreOption = None) -> None:
    """Who there is."""
    with registrations(store) as found:
        table = Table("name", "is", "scopes", "roles", "state")
        for each in found.list(Account):
            state = "active" if each.is_active else "revoked"
            table.add_row(each.name, each.fhir_user, each.scopes, " ".join(each.roles), state)
        _out.print(table)


@app.command()
def revoke(name: Name, store: StoreOption = None) -> None:
    """Let them in no more: what they signed in to is signed out with the next request."""
    with registrations(store) as found:
        found.revoke(Account, name)
        _out.print(f"{name} is revoked", markup=False)


@app.command()
def password(name: Name, password: Password, store: StoreOption = None) -> None:
    """Give them another password; what they had signed in to is signed out."""
    with registrations(store) as found:
        hashed = hash_password(password)
        found.change(Account, name, lambda was: replace(was, password=hashed, is_active=True))
        _out.print(f"{name} has a new password", markup=False)
