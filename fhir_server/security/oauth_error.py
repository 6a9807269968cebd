"""OAuthError: what an OAuth endpoint refuses, in OAuth's words.

https://www.rfc-editor.org/rfc/rfc6749#section-5.2
"""


class OAuthError(Exception):
    """`code` is one of OAuth's ("invalid_grant"); the message is for the client's developer."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.status = status
