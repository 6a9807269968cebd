"""The guard of shipped definitions: what comes with the program is changed by nobody."""

from collections.abc import Sequence

from fhir_server.interactions.shipped import Shipped
from fhir_server.operations.judge import Change
from fhir_server.store.protocol import Transaction


class ShippedGuard:
    """It looks at what a decision has put, whichever interaction that was."""

    def __init__(self, shipped: Shipped) -> None:
        self._shipped = shipped
        self.looked_at = shipped.resource_types

    def judge(self, tx: Transaction, changes: Sequence[Change]) -> int:
        """Nothing is to be confirmed.

        Raises:
            Unsupported: one of them was put.
        """
        for change in changes:
            # What was stored under the key before it was shipped may still go.
            if change.resource is not None:
                self._shipped.check_changeable(change.key)
        return 0

    def confirm(self, sequence: int) -> None:
        """It keeps nothing."""
