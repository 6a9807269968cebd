"""Budget: how much work a patch, or all those of one transaction, may make."""

from fhir_server.errors import TooCostly

_ONE_PATCH = 300_000


class Budget:
    """Work that is left, in steps of about a microsecond."""

    def __init__(self, steps: int = _ONE_PATCH) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Raises `TooCostly` when there is not so much left."""
        self._left -= steps
        if self._left < 0:
            raise TooCostly("the patch asks for more work than one request may")
