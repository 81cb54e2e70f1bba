"""A FAT volume against a dict of bytes: the state machine, and the volumes it starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import FatError, FatExistsError, FatNotFoundError, NoSpaceError
from ipva_storage.findings import Severity
from ipva_storage.units import KIB, MIB

if TYPE_CHECKING:
    from ipva_storage.findings import Finding

KINDS: Final = ((12, 96 * KIB, 512), (12, MIB, 2 * KIB), (16, 5 * MIB, KIB), (32, 34 * MIB, 512))
"""FAT bits, volume and cluster size of the volumes that are tried: small ones fill up."""

ALPHABET: Final = "abcdefgXYZ0123 .+[]~äÉ한𝒳-_"
_EDGE: Final = " ."


def names() -> st.SearchStrategy[str]:
    """Names that Windows takes, short and long, some beyond ASCII and the basic plane."""
    plain = st.text(ALPHABET, min_size=1, max_size=40).filter(
        lambda name: name[0] not in _EDGE and name[-1] not in _EDGE
    )
    few = st.sampled_from(["README.TXT", "readme.txt", "Read me.txt", "a", "A.b", "ipva.bin"])
    return few | plain | st.integers(1, 255).map(lambda count: "n" * count)


def serious(findings: list[Finding]) -> list[Finding]:
    """The findings that are more than worth knowing."""
    return [finding for finding in findings if finding.severity is not Severity.INFO]


class FatMachine(RuleBasedStateMachine):
    """Writes, replaces, deletes and makes folders; the volume holds what the dict holds."""

    @initialize(kind=st.sampled_from(KINDS))
    def format(self, kind: tuple[int, int, int]) -> None:
        """Start with an empty volume."""
        bits, size_bytes, cluster_bytes = kind
        self.device = MemoryDevice(size_bytes)
        fat.format(self.device, fat_bits=bits, cluster_bytes=cluster_bytes, volume_id=1)
        self.volume = fat.open(self.device)
        self.files: dict[str, bytes] = {}
        self.folders: dict[str, str] = {"": ""}
        self.shown: dict[str, str] = {}
        self.is_changed = True

    def _path(self, data: st.DataObject, name: str) -> str:
        return data.draw(st.sampled_from(sorted(self.folders.values()))) + "/" + name

    def _clashes(self, path: str) -> bool:
        """Whether the name is some other entry's short name, which then is what it means."""
        return self._key(path) not in self._known() and self._exists(path)

    def _known(self) -> set[str]:
        return {*self.files, *self.folders}

    def _exists(self, path: str) -> bool:
        try:
            self.volume.stat(path)
        except FatNotFoundError:
            return False
        return True

    def _key(self, path: str) -> str:
        from ipva_storage.fat.names import fold

        return fold(path)

    @rule(data=st.data(), name=names(), content=st.binary(max_size=3000), repeat=st.integers(0, 20))
    def write(self, data: st.DataObject, name: str, content: bytes, repeat: int) -> None:
        """Write a file; a full volume changes nothing."""
        path = self._path(data, name)
        if self._clashes(path):
            return
        content = content * repeat
        key = self._key(path)
        try:
            self.volume.write(path, content)
        except NoSpaceError:
            return
        except FatExistsError:
            assert key in self.folders
            return
        assert key not in self.folders
        self.files[key] = content
        self.shown.setdefault(key, path)
        self.is_changed = True

    @rule(data=st.data(), name=names())
    def mkdir(self, data: st.DataObject, name: str) -> None:
        """Make a folder."""
        path = self._path(data, name)
        if self._clashes(path):
            return
        key = self._key(path)
        try:
            self.volume.mkdir(path)
        except NoSpaceError:
            return
        except FatExistsError:
            assert key in self._known()
            return
        assert key not in self._known()
        self.folders[key] = path
        self.shown[key] = path
        self.is_changed = True

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete_file(self, data: st.DataObject) -> None:
        """Delete a file, by its name in other case."""
        key = data.draw(st.sampled_from(sorted(self.files)))
        self.volume.delete(key)
        del self.files[key], self.shown[key]
        self.is_changed = True

    @precondition(lambda self: len(self.folders) > 1)
    @rule(data=st.data())
    def delete_folder(self, data: st.DataObject) -> None:
        """Delete a folder if it is empty."""
        key = data.draw(st.sampled_from(sorted(self.folders.keys() - {""})))
        is_empty = not any(other.startswith(key + "/") for other in self._known())
        try:
            self.volume.delete(self.folders[key])
        except FatError:
            assert not is_empty
            return
        assert is_empty
        del self.folders[key], self.shown[key]
        self.is_changed = True

    @rule(data=st.data(), count=st.integers(1, 40))
    def write_batch(self, data: st.DataObject, count: int) -> None:
        """Write, replace and delete many files in one batch."""
        folder = data.draw(st.sampled_from(sorted(self.folders.values())))
        with self.volume.batch():
            for number in range(count):
                path = f"{folder}/Batch file number {number % 13}.dat"
                key = self._key(path)
                if number % 5 == 4 and key in self.files:
                    self.volume.delete(path)
                    del self.files[key], self.shown[key]
                    continue
                content = bytes([number]) * number * 37
                try:
                    self.volume.write(path, content)
                except NoSpaceError:
                    continue
                self.files[key] = content
                self.shown.setdefault(key, path)
        self.is_changed = True

    @rule()
    def reopen(self) -> None:
        """Close the volume and open it anew."""
        self.volume.close()
        self.volume = fat.open(self.device)

    @invariant()
    def same_content(self) -> None:
        """Names, kinds and contents are those of the dict, on the medium as in memory."""
        if not self.is_changed:
            return
        self.is_changed = False
        for volume in (self.volume, fat.open(self.device)):
            found = dict(volume.walk())
            assert sorted(found) == sorted(self.shown.values())
            for key, content in self.files.items():
                assert volume.read(self.shown[key]) == content

    @invariant()
    def check_is_clean(self) -> None:
        """The check finds nothing once the volume is flushed."""
        self.volume.flush()
        assert serious(list(fat.check(self.device))) == []

    def teardown(self) -> None:
        """Close the volume."""
        if hasattr(self, "volume"):
            self.volume.close()
