"""A gate before a FHIR server: gives tokens to whom it knows, and lets nobody else in.

    python tests/faults/guarded_hospital.py PORT FHIR_ROOT CLIENT_ID SECRET PUBLIC_KEY_FILE

`POST /token` takes client credentials, by a secret or a signed assertion; `POST /revoke`
makes all tokens void; `GET /given` says how many there were, and by which proof.
"""

import base64
import secrets
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, unquote

import requests
import uvicorn
from fastapi import FastAPI, Request, Response
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey


def create_app(port: int, root: str, client_id: str, secret: str, key_file: Path) -> FastAPI:
    app = FastAPI()
    valid: set[str] = set()
    used: set[str] = set()
    given: Counter[str] = Counter()
    http = requests.Session()
    key = RSAKey.import_key(key_file.read_bytes())

    def proof_of(request: Request, form: dict[str, list[str]]) -> str:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            name, _, word = base64.b64decode(value).decode().partition(":")
            return "secret" if (unquote(name), unquote(word)) == (client_id, secret) else ""
        try:
            token = jwt.decode(form["client_assertion"][0], key, algorithms=["RS384"])
            jwt.JWTClaimsRegistry(
                iss={"value": client_id},
                sub={"value": client_id},
                aud={"value": f"http://127.0.0.1:{port}/token"},
                exp={"essential": True},
            ).validate(token.claims)
        except (JoseError, KeyError):
            return ""
        if token.claims["jti"] in used:
            return ""
        used.add(token.claims["jti"])
        return "assertion"

    @app.post("/token")
    async def token(request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        proof = proof_of(request, form)
        if form.get("grant_type") != ["client_credentials"] or not proof:
            return Response('{"error": "invalid_client"}', 401)
        given[proof] += 1
        made = secrets.token_urlsafe()
        valid.add(made)
        answer = f'{{"access_token": "{made}", "token_type": "Bearer", "expires_in": 300}}'
        return Response(answer, media_type="application/json")

    @app.post("/revoke")
    async def revoke() -> None:
        valid.clear()

    @app.get("/given")
    async def how_many() -> dict[str, int]:
        return dict(given)

    @app.api_route("/fhir/{path:path}", methods=["GET", "POST", "PUT"])
    async def forward(path: str, request: Request) -> Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer not in valid:
            return Response(status_code=401)
        kept = ("content-type", "accept", "if-none-exist", "prefer")
        answer = http.request(
            request.method,
            f"{root}/fhir/{path}?{request.url.query}",
            data=await request.body(),
            headers={name: request.headers[name] for name in kept if name in request.headers},
            timeout=20,
        )
        told = {n: answer.headers[n] for n in ("location", "etag") if n in answer.headers}
        kind = answer.headers.get("content-type")
        return Response(answer.content, answer.status_code, told, kind)

    return app


if __name__ == "__main__":
    port, root, client_id, secret, key_file = sys.argv[1:]
    uvicorn.run(
        create_app(int(port), root, client_id, secret, Path(key_file)),
        port=int(port),
        log_level="warning",
    )
