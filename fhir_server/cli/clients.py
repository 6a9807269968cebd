"""`fhir-server clients`: the programs that may get tokens from this server."""

import json
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from rich.console import Console
from rich.table import Table

from fhir_server.cli.registry import StoreOption, registrations
from fhir_server.core.security import scope as smart
from fhir_server.core.security.registration import Client
from fhir_server.security.authorization import WORDS
from fhir_server.security.registrations import hashed
from fhir_server.security.signed_token import parse_keys

app = typer.Typer(help="Programs that get tokens here: backend services and apps.")

_out = Console(soft_wrap=True, highlight=False)

ClientId = Annotated[str, typer.Argument(help="The client's id: letters, digits, - and _.")]
Keys = Annotated[
    Path | None, typer.Option("--jwks", help="File of its public keys, a JWKS.", exists=True)
]
KeysUrl = Annotated[str, typer.Option("--jwks-url", help="Where it publishes them, by https.")]
NewKey = Annotated[
    Path | None,
    typer.Option("--new-key", help="Make it a key pair; the private key goes to this new file."),
]
IsSecret = Annotated[
    bool, typer.Option("--secret", help="Make it a secret instead, shown this once.")
]


@app.command()
def add(
    client_id: ClientId,
    scopes: Annotated[str, typer.Option(help='The most it may ask for: "system/*.rs".')],
    title: Annotated[str, typer.Option(help="As people are told who sign in to it.")] = "",
    jwks: Keys = None,
    jwks_url: KeysUrl = "",
    new_key: NewKey = None,
    secret: IsSecret = False,
    redirect_uri: Annotated[
        list[str] | None, typer.Option(help="Of an app that people sign in to; repeatable.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help='"operator" may read /metrics.')] = None,
    purpose: Annotated[
        list[str] | None, typer.Option(help="What it asks for data for, as TREAT or ETREAT.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Register a client; an app without key and secret is public and proves itself by PKCE."""
    with registrations(store) as found:
        check_scopes(scopes)
        for uri in redirect_uri or ():
            _check_redirect(uri)
        if not redirect_uri and not (jwks or jwks_url or new_key or secret):
            raise ValueError("a client without --redirect-uri needs a key or a secret")
        client = Client(
            client_id=client_id,
            title=title,
            scopes=scopes,
            redirect_uris=tuple(redirect_uri or ()),
            roles=tuple(role or ()),
            purposes=tuple(purpose or ()),
        )
        client, shown = _with_proof(client, jwks, jwks_url, new_key, is_secret=secret)
        found.add(client)
        _tell(client_id, shown)


@app.command("list")
def list_(store: StoreOption = None) -> None:
    """Who is registered."""
    with registrations(store) as found:
        table = Table("client", "proves itself by", "scopes", "sends people to", "state")
        for each in found.list(Client):
            proof = "PKCE" if each.is_public else "secret" if each.secret else "key"
            state = "active" if each.is_active else "revoked"
            table.add_row(each.client_id, proof, each.scopes, " ".join(each.redirect_uris), state)
        _out.print(table)


@app.command()
def revoke(client_id: ClientId, store: StoreOption = None) -> None:
    """Let it in no more: its tokens are void with the next request of every process."""
    with registrations(store) as found:
        found.revoke(Client, client_id)
        _out.print(f"{client_id} is revoked", markup=False)


@app.command()
def rotate(
    client_id: ClientId,
    jwks: Keys = None,
    jwks_url: KeysUrl = "",
    new_key: NewKey = None,
    secret: IsSecret = False,
    store: StoreOption = None,
) -> None:
    """Give it other keys, or another secret; what it got by the old ones is void."""
    with registrations(store) as found:
        if not (jwks or jwks_url or new_key or secret):
            raise ValueError("--jwks, --jwks-url, --new-key or --secret: one of them")
        bare = Client(client_id=client_id)
        made, shown = _with_proof(bare, jwks, jwks_url, new_key, is_secret=secret)

        def turn(client: Client) -> Client:
            return replace(
                client,
                jwks=made.jwks,
                jwks_url=made.jwks_url,
                secret=made.secret,
                is_active=True,
            )

        found.change(Client, client_id, turn)
        _tell(client_id, shown)


def _with_proof(
    client: Client, jwks: Path | None, jwks_url: str, new_key: Path | None, *, is_secret: bool
) -> tuple[Client, str]:
    """The client with what it proves itself by, and what has to be shown now or never."""
    if sum(map(bool, (jwks, jwks_url, new_key, is_secret))) > 1:
        raise ValueError("--jwks, --jwks-url, --new-key and --secret: one of them")
    if jwks is not None:
        return replace(client, jwks=_read_keys(jwks)), ""
    if jwks_url:
        if not jwks_url.startswith("https://"):
            raise ValueError("--jwks-url: keys are published by https")
        return replace(client, jwks_url=jwks_url), ""
    if new_key is not None:
        return replace(client, jwks={"keys": [_make_key(new_key)]}), ""
    if is_secret:
        secret = secrets.token_urlsafe(32)
        return replace(client, secret=hashed(secret)), secret
    return client, ""


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
        keys = parse_keys(document)
    except (ValueError, JoseError):
        raise ValueError(f"{path} is no JWKS") from None
    if not len(keys):
        raise ValueError(f"{path} has no RSA key of 2048 bits or more, and none of P-256 or P-384")
    if any("d" in key for key in document["keys"]):
        raise ValueError(f"{path} has private keys in it: those stay with the client")
    return {"keys": document["keys"]}


def _make_key(path: Path) -> dict[str, Any]:
    """The public half of a new key; the private one is written to `path`."""
    key = ECKey.generate_key("P-384", {"kid": secrets.token_urlsafe(9)})
    marks = {"use": "sig", "alg": "ES384"}
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ValueError(f"{path} is there already") from None
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        json.dump(key.as_dict(private=True) | marks, opened)
    return key.as_dict(private=False) | marks


def check_scopes(text: str) -> None:
    """Raises `ValueError`: one of them grants nothing, so it is misspelt."""
    for word in text.split(" "):
        if smart.parse(word) is None and word not in WORDS:
            raise ValueError(f"--scopes: {word!r} is no SMART scope")


def _check_redirect(uri: str) -> None:
    scheme, mark, rest = uri.partition(":")
    is_web = scheme in ("http", "https")
    is_near = rest.startswith(("//127.0.0.1", "//localhost", "//[::1]"))
    if not mark or "#" in uri or (scheme == "http" and not is_near):
        raise ValueError("--redirect-uri: an https address, one of this machine, or an app's own")
    if not is_web and "." not in scheme:
        raise ValueError(
            "--redirect-uri: an app's own scheme has its domain in it: org.example.app:"
        )


def _tell(client_id: str, secret: str) -> None:
    _out.print(f"{client_id} is registered", markup=False)
    if secret:
        _out.print(f"its secret, shown this once: {secret}", markup=False)
