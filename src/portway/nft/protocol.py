"""The seam between deciding and doing: what a holder of tables can be asked, by the kernel and by the fake alike."""

from __future__ import annotations

from typing import Protocol

from portway.nft.tables import Family, Ruleset
from portway.nft.transaction import Transaction


class Nft(Protocol):
    """A holder of nftables tables. A transaction is applied whole or not at all (`NftError`)."""

    def apply(self, transaction: Transaction) -> None:
        """Apply all of it atomically; raises `NftError` (nothing changed) when any part is refused."""
        ...

    def read(self, family: Family, name: str) -> Ruleset | None:
        """The table as it is now, sorted as `compile` sorts; None when there is no such table."""
        ...

    def close(self) -> None: ...


class NftError(Exception):
    """A transaction was refused. The message names the part and the kernel's reason; nothing was changed."""
