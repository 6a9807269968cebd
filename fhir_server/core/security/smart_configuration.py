"""Where tokens are had: SMART's configuration document, OpenID's, and what /metadata says.

https://hl7.org/fhir/smart-app-launch/conformance.html
"""

from typing import Any, NamedTuple

from fhir_server.core.resource_json import Resource

_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SECURITY_SERVICE = "http://terminology.hl7.org/CodeSystem/restful-security-service"

OWN_CAPABILITIES = (
    "launch-standalone",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-standalone-patient",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
)
OTHERS_CAPABILITIES = ("permission-patient", "permission-user", "permission-v1", "permission-v2")
"""What this server does with tokens of another; the rest is that one's to say."""


class Endpoints(NamedTuple):
    """Absolute URLs; "" for what there is not. `is_own`: they are this server's."""

    issuer: str
    token: str
    authorize: str = ""
    keys: str = ""
    introspect: str = ""
    revoke: str = ""
    is_own: bool = False


def own_endpoints(base_url: str, prefix: str = "/fhir") -> Endpoints:
    """Those of the embedded authorization server, of the server at `base_url`."""
    root = base_url.removesuffix(prefix)
    return Endpoints(
        issuer=root,
        token=f"{root}/auth/token",
        authorize=f"{root}/auth/authorize",
        keys=f"{root}/auth/keys",
        revoke=f"{root}/auth/revoke",
        is_own=True,
    )


def smart_configuration(endpoints: Endpoints) -> Resource:
    """/.well-known/smart-configuration"""
    document: dict[str, Any] = {
        "issuer": endpoints.issuer,
        "jwks_uri": endpoints.keys,
        "authorization_endpoint": endpoints.authorize,
        "token_endpoint": endpoints.token,
        "introspection_endpoint": endpoints.introspect,
        "revocation_endpoint": endpoints.revoke,
        "scopes_supported": _SCOPES,
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "capabilities": list(OWN_CAPABILITIES if endpoints.is_own else OTHERS_CAPABILITIES),
    }
    if endpoints.is_own:
        document |= _AT_TOKEN_ENDPOINT
    return {name: value for name, value in document.items() if value}


def openid_configuration(endpoints: Endpoints) -> Resource:
    """/.well-known/openid-configuration of the embedded authorization server."""
    named = smart_configuration(endpoints)
    return {name: value for name, value in named.items() if name != "capabilities"} | {
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


def security(endpoints: Endpoints) -> Resource:
    """CapabilityStatement.rest.security"""
    uris = [
        {"url": name, "valueUri": url}
        for name, url in (
            ("token", endpoints.token),
            ("authorize", endpoints.authorize),
            ("introspect", endpoints.introspect),
            ("revoke", endpoints.revoke),
        )
        if url
    ]
    return {
        "extension": [{"url": _OAUTH_URIS, "extension": uris}] if uris else [],
        "cors": True,
        "service": [
            {
                "coding": [{"system": _SECURITY_SERVICE, "code": "SMART-on-FHIR"}],
                "text": "OAuth2 using SMART-on-FHIR profile (see https://docs.smarthealthit.org)",
            }
        ],
        "description": "A bearer token is needed for everything but /metadata.",
    }


_SCOPES = [
    "openid", "fhirUser", "launch/patient", "offline_access", "online_access",
    "patient/*.rs", "user/*.cruds", "system/*.cruds",
]  # fmt: skip
_AT_TOKEN_ENDPOINT = {
    "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "none"],
    "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
}
