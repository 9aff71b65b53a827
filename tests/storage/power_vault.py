"""The life of a vault, and what it owes after a power cut."""

from collections.abc import Iterator

from power import Contents, Cut, Supply

from meter_runtime.errors import MeterError
from meter_runtime.storage.vault import MAX_CONTENT, Vault

KEY = bytes(range(32))
ANOTHER_KEY = bytes(range(1, 33))


def secret(n: int) -> bytes:
    """The first is empty, the next one full; all differ."""
    return bytes((n % 256,)) * ((n - 1) * MAX_CONTENT % (MAX_CONTENT + 3))


class VaultLife:
    """One run over a vault: what is there is loaded, then ``count`` secrets more are stored."""

    def __init__(self, contents: Contents, write_unit: int, first: int, count: int) -> None:
        self.supply = Supply(contents, write_unit)
        self._write_unit = write_unit
        self._following = first + count
        vault = Vault.open(self.supply.media[0], KEY)
        self._began = [(0, vault.load())]
        for n in range(first, self._following):
            vault.store(secret(n))
            assert vault.load() == secret(n)
            assert _sealed(self.supply.contents) == 1, "what was replaced is still there"
            self._began.append((self.supply.now, secret(n)))

    @classmethod
    def new(cls, write_unit: int) -> "VaultLife":
        return cls((bytes(Vault.size_for(write_unit)),), write_unit, first=1, count=4)

    def after(self, cut: Cut, contents: Contents) -> Iterator["VaultLife"]:
        if cut.operation is None:
            assert cut.before == cut.after, "acknowledged, yet not flushed"
        last = max(index for index, (done, _) in enumerate(self._began) if done <= cut.at)
        owed = self._began[last][1]
        storing = tuple(content for _, content in self._began[last + 1 : last + 2])
        supply = Supply(contents, self._write_unit)
        vault = Vault.open(supply.media[0], KEY)
        found = vault.load()
        assert found == owed or found in storing, "neither the old nor the new"
        assert not vault.unerased
        if found is None:
            assert vault.damaged == any(contents[0])
        else:
            assert not vault.damaged
            assert _sealed(supply.contents) == 1, "both are there"
            self._check_another_key(contents)
        yield VaultLife(contents, self._write_unit, self._following, count=1)

    def _check_another_key(self, contents: Contents) -> None:
        """The wrong key opens nothing, and erases nothing that the right one opens."""
        supply = Supply(contents, self._write_unit)
        opened = True
        try:
            Vault.open(supply.media[0], ANOTHER_KEY)
        except MeterError:
            opened = False
        assert not opened, "the wrong key opens it"
        assert supply.now == 0, "the wrong key changed something"


def _sealed(contents: Contents) -> int:
    """Slots with anything in them."""
    (content,) = contents
    half = len(content) // 2
    return any(content[:half]) + any(content[half:])
