"""A FAT volume against a dict of bytes: the state machine, and the volumes it starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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
from ipva_storage.errors import (
    FatError,
    FatExistsError,
    FatNotFoundError,
    NoSpaceError,
    UsageError,
)
from ipva_storage.fat.names import RESERVED
from ipva_storage.findings import Severity
from ipva_storage.units import KIB, MIB

if TYPE_CHECKING:
    from ipva_storage.findings import Finding

KINDS: Final = ((12, 96 * KIB, 512), (12, MIB, 2 * KIB), (16, 5 * MIB, KIB), (32, 34 * MIB, 512))
"""FAT bits, volume and cluster size of the volumes that are tried: small ones fill up."""

ALPHABET: Final = "abcdefgXYZ0123 .+[]~äÉ한𝒳-_"
_EDGE: Final = " ."


def names() -> st.SearchStrategy[str]:
    """Names that Windows takes, short and long, from all of Unicode's planes."""
    any_plane = st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters=RESERVED)
    characters = st.sampled_from(ALPHABET) | any_plane
    plain = st.text(characters, min_size=1, max_size=40).filter(
        lambda name: name[0] not in _EDGE and name[-1] not in _EDGE
    )
    few = st.sampled_from(["README.TXT", "readme.txt", "Read me.txt", "a", "A.b", "ipva.bin"])
    return few | plain | st.integers(1, 255).map(lambda count: "n" * count)


def serious(findings: list[Finding]) -> list[Finding]:
    """The findings that are more than worth knowing."""
    return [finding for finding in findings if finding.severity is not Severity.INFO]


def jobs() -> st.SearchStrategy[list[tuple[str, int, bytes]]]:
    """What may be done with an open file: a verb, a place, and bytes."""
    verbs = st.sampled_from(["write", "write", "truncate", "flush", "read"])
    at = st.integers(0, 9000) | st.integers(0, 200_000)
    data = st.binary(max_size=40).map(lambda few: few * 50) | st.binary(max_size=20)
    return st.lists(st.tuples(verbs, at, data), min_size=1, max_size=6)


class FatMachine(RuleBasedStateMachine):
    """Everything that changes files and folders; the volume holds what the dict holds."""

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

    @precondition(lambda self: self.files)
    @rule(data=st.data(), work=jobs(), mode=st.sampled_from(["r+", "a+", "w+"]))
    def open_file(self, data: st.DataObject, work: list[tuple[str, int, bytes]], mode: str) -> None:
        """Read, write and cut through a file object; where there is no room, nothing changes."""
        key = data.draw(st.sampled_from(sorted(self.files)))
        content = bytearray(b"" if mode == "w+" else self.files[key])
        with self.volume.open(key, mode, buffering=0) as file:
            for verb, at, new in work:
                file.seek(at)
                if verb == "read":
                    assert file.read(len(new)) == content[at : at + len(new)]
                elif verb == "flush":
                    file.flush()
                else:
                    self._change(file, content, mode, (verb, at, new))
        self.files[key] = bytes(content)
        self.is_changed = True

    def _change(
        self, file: Any, content: bytearray, mode: str, job: tuple[str, int, bytes]
    ) -> None:
        verb, at, new = job
        try:
            file.truncate(at) if verb == "truncate" else file.write(new)
        except NoSpaceError:
            return
        if verb == "truncate":
            content[:] = content[:at].ljust(at, b"\0")
        elif new:
            at = len(content) if mode == "a+" else at
            content[:] = content.ljust(at, b"\0")
            content[at : at + len(new)] = new

    @precondition(lambda self: self.files)
    @rule(data=st.data(), name=names(), force=st.booleans())
    def move_file(self, data: st.DataObject, name: str, force: bool) -> None:
        """Move or rename a file; another one gives way only when that is forced."""
        key = data.draw(st.sampled_from(sorted(self.files)))
        name = data.draw(st.sampled_from([name, name, self.shown[key].split("/")[-1].swapcase()]))
        target = self._path(data, name)
        new = self._key(target)
        if self._clashes(target) or not 1 <= len(name.encode("utf-16-le")) <= 510:
            return
        try:
            self.volume.move(self.shown[key], target, force=force)
        except NoSpaceError:
            return
        except FatExistsError:
            assert new in self.folders or (new in self.files and new != key and not force)
            return
        assert new not in self.folders
        if new == key or new not in self.files:
            self.shown[new] = target
        self.files[new] = self.files.pop(key)
        if new != key:
            del self.shown[key]
        self.is_changed = True

    @precondition(lambda self: len(self.folders) > 1)
    @rule(data=st.data(), name=names())
    def move_folder(self, data: st.DataObject, name: str) -> None:
        """Move or rename a folder with all in it, never into itself."""
        key = data.draw(st.sampled_from(sorted(self.folders.keys() - {""})))
        target = self._path(data, name)
        new = self._key(target)
        if self._clashes(target):
            return
        try:
            self.volume.move(self.folders[key], target)
        except NoSpaceError:
            return
        except UsageError:
            assert new.startswith(key + "/")
            return
        except FatExistsError:
            assert new in self._known() - {key}
            return
        self._carry(key, new, target)
        self.is_changed = True

    def _carry(self, key: str, new: str, target: str) -> None:
        """Let everything below a folder have another path."""
        length = len(self.folders[key])
        tables: tuple[dict[str, Any], ...] = (self.files, self.folders, self.shown)
        for known in tables:
            for old in [each for each in known if each == key or each.startswith(key + "/")]:
                value = known.pop(old)
                if isinstance(value, str):
                    value = target + value[length:]
                known[new + old[len(key) :]] = value

    @precondition(lambda self: len(self.folders) > 1)
    @rule(data=st.data())
    def delete_tree(self, data: st.DataObject) -> None:
        """Delete a folder with all in it."""
        key = data.draw(st.sampled_from(sorted(self.folders.keys() - {""})))
        gone = [each for each in self._known() if each == key or each.startswith(key + "/")]
        assert self.volume.delete(self.folders[key], recursive=True) == len(gone)
        for each in gone:
            self.shown.pop(each)
            self.files.pop(each, None)
            self.folders.pop(each, None)
        self.is_changed = True

    @rule(label=st.sampled_from(["CF0", "a label", None]))
    def set_label(self, label: str | None) -> None:
        """Set the label or remove it."""
        try:
            self.volume.set_label(label)
        except NoSpaceError:
            return
        assert self.volume.label == (label and label.upper())
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
