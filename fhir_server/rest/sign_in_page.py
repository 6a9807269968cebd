"""The page on which a person signs in and agrees: no script, no cookie, nothing loaded.

Name and password go with each agreement, so there is no session that another site could use.
"""

import secrets
from collections.abc import Mapping
from importlib.resources import files
from urllib.parse import urlsplit

from jinja2 import Environment, StrictUndefined
from starlette.responses import Response

from fhir_server.core.security import scope as smart
from fhir_server.core.security.scope import ANY_TYPE
from fhir_server.security.authorization import Asked

FIELDS = ("username", "password", "patient", "decision")
"""What the person fills in; all else came from the app."""

_TITLE = "Sign in"
_ACTIONS = {"c": "create", "r": "read", "u": "change", "d": "delete", "s": "search"}
_WORDS = {
    "openid": "know that it is you",
    "fhirUser": "know which record is yours",
    "profile": "know which record is yours",
    "launch/patient": "be told which patient it is about",
    "offline_access": "go on for 30 days, also when you are not there",
    "online_access": "go on for 12 hours",
}
_WHOSE = {
    "patient": "of the one patient",
    "user": "that you may see",
    "system": "of everybody",
}

# With the folder's own loader a template's name could come from outside: there is but one.
_environment = Environment(autoescape=True, undefined=StrictUndefined)
_template = _environment.from_string(
    files(__package__).joinpath("templates/sign_in.html").read_text("utf-8")
)


def page(
    asked: Asked, params: Mapping[str, str], fault_text: str = "", status: int = 200
) -> Response:
    """The page for what an app asks; `params` are what it asked with."""
    parts = urlsplit(asked.redirect_uri)
    place = f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"
    return _render(
        status,
        place,
        fault=fault_text,
        asked=True,
        app=asked.client.title or asked.client.client_id,
        wishes=list(dict.fromkeys(_say(each) for each in asked.scopes)),
        place=place,
        hidden=list(params.items()),
        wants_patient=asked.wants_patient,
    )


def fault(text: str) -> Response:
    """What is wrong, where there is no app that could be told."""
    return _render(400, "", fault=text, asked=False)


def _render(status: int, target: str, **values: object) -> Response:
    nonce = secrets.token_urlsafe(16)
    text = _template.render(title=_TITLE, nonce=nonce, **values)
    # The answer to the form sends the browser on to the app, and browsers hold that to it too.
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self' {target}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    return Response(text, status, headers, "text/html; charset=utf-8")


def _say(word: str) -> str:
    """A scope in words."""
    scope = smart.parse(word)
    if scope is None:
        return _WORDS.get(word, word)
    actions = [text for letter, text in _ACTIONS.items() if letter in scope.permissions]
    what = "all records" if scope.resource_type == ANY_TYPE else f"{scope.resource_type} records"
    limits = " and ".join(f"{name} {value}" for name, value in scope.params)
    only = f", only those with {limits}" if limits else ""
    return f"{', '.join(actions)} {what} {_WHOSE[scope.context]}{only}"
