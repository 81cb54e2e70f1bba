"""Ways to damage the folder records and the chains of a small volume."""

from __future__ import annotations

from ipva_storage import fat
from ipva_storage.fat.folder import pack_long
from tests.damage.fat_volumes import Volume, content, entry

A, LONG, B = "/A.TXT", "/A file with a long name.txt", "/SUB/B.TXT"
SECOND, C, D = "/SUB/Second long name.dat", "/SUB/Deep folder/C.BIN", "/SUB/Deep folder/D.TXT"
E, F, Z = "/SUB/Deep folder/Deeper/E.TXT", "/OTHER/F.TXT", "/Z.TXT"

# -- chains -----------------------------------------------------------------------------------


def to_free(v: Volume) -> None:
    """The middle of a chain is marked free."""
    v.link(v.chain(SECOND)[3], 0)


def to_free_end(v: Volume) -> None:
    """The last entries of a chain are marked free."""
    for cluster in v.chain(SECOND)[4:]:
        v.link(cluster, 0)


def to_bad(v: Volume) -> None:
    """A cluster in a chain is marked bad."""
    v.link(v.chain(SECOND)[4], v.bad)


def to_outside(v: Volume) -> None:
    """A link leads to a cluster that does not exist."""
    v.link(v.chain(SECOND)[2], v.geometry.entry_count + 5)


def to_one(v: Volume) -> None:
    """A link leads to cluster 1."""
    v.link(v.chain(C)[0], 1)


def ring(v: Volume) -> None:
    """The last cluster of a file leads to its first."""
    chain = v.chain(C)
    v.link(chain[-1], chain[0])


def ring_amid(v: Volume) -> None:
    """A link leads back, and the rest of the file is an orphan."""
    chain = v.chain(SECOND)
    v.link(chain[2], chain[1])


def ring_of_one(v: Volume) -> None:
    """A cluster leads to itself."""
    chain = v.chain(C)
    v.link(chain[0], chain[0])


def folder_ring(v: Volume) -> None:
    """A folder's only cluster leads to itself."""
    chain = v.chain("/SUB")
    v.link(chain[-1], chain[0])


def too_short(v: Volume) -> None:
    """A chain ends early; its rest is an orphan."""
    v.link(v.chain(SECOND)[1], v.end)


def too_short_freed(v: Volume) -> None:
    """A chain ends early, and its rest is free."""
    chain = v.chain(SECOND)
    v.link(chain[1], v.end)
    for cluster in chain[2:]:
        v.link(cluster, 0)


def too_long(v: Volume) -> None:
    """A file's length says less than its chain has."""
    v.patch(SECOND, 28, (10).to_bytes(4, "little"))


def too_long_zero(v: Volume) -> None:
    """A chain goes on with clusters of zeros, as Windows reserves them."""
    free = v.chain(Z)[-1] + 40
    v.link(v.chain(Z)[-1], free)
    v.link(free, free + 1)
    v.link(free + 1, v.end)


def length_lost(v: Volume) -> None:
    """A file's length is 0, and its chain is there."""
    v.patch(C, 28, bytes(4))


def length_huge(v: Volume) -> None:
    """A file's length is 4 GiB - 1."""
    v.patch(C, 28, b"\xff" * 4)


def start_zero(v: Volume) -> None:
    """A file has content and no first cluster."""
    v.start(C, 0)


def start_free(v: Volume) -> None:
    """A file starts in a free cluster."""
    v.start(C, v.chain(Z)[-1] + 60)


def start_bad(v: Volume) -> None:
    """A file's first cluster is marked bad."""
    v.link(v.chain(D)[0], v.bad)


def start_outside(v: Volume) -> None:
    """A file starts beyond the end of the volume."""
    v.start(C, v.geometry.entry_count + 1)


def start_wiped(v: Volume) -> None:
    """All entries of a file are free."""
    for cluster in v.chain(C):
        v.link(cluster, 0)


def shared_start(v: Volume) -> None:
    """A file starts where another does; its own chain is an orphan."""
    v.start(B, v.chain(A)[0])


def shared_tail(v: Volume) -> None:
    """Two chains end in the same clusters; nothing else is left of the second one's."""
    chain, other = v.chain(SECOND), v.chain(C)
    for cluster in chain[3:]:
        v.link(cluster, 0)
    v.link(chain[2], other[0])


def shared_without_room(v: Volume) -> None:
    """A file starts where a later one does, its own clusters are bad, and no cluster is free."""
    chain, other = v.chain(A), v.chain(C)
    with fat.open(v.device) as volume:
        volume.write("/FILL", content("/FILL", volume.free_bytes))
    for cluster in chain:
        v.link(cluster, v.bad)
    v.start(A, other[0])


def three_share(v: Volume) -> None:
    """Three files have the same chain."""
    for path in (LONG, D):
        v.start(path, v.chain(A)[0])


def file_in_folder(v: Volume) -> None:
    """A file starts in the clusters of a folder; its own chain is an orphan."""
    v.start(D, v.chain("/OTHER")[0])


def orphan(v: Volume) -> None:
    """A file's records are overwritten."""
    v.put(v.record(A), b"\xe5" + bytes(31))


def orphan_zeros(v: Volume) -> None:
    """Clusters of zeros are in use and belong to nothing."""
    first = v.chain(Z)[-1] + 50
    v.link(first, first + 1)
    v.link(first + 1, v.end)


def orphan_ring(v: Volume) -> None:
    """Clusters that belong to nothing lead to each other."""
    orphan(v)
    chain = list(range(v.chain(LONG)[0] - 3, v.chain(LONG)[0]))
    v.link(chain[-1], chain[0])


def orphan_into_file(v: Volume) -> None:
    """An orphan chain leads into a file."""
    first = v.chain(A)[0]
    orphan(v)
    v.link(first + 2, v.chain(LONG)[0])


def deleted_record(v: Volume) -> None:
    """The records of a file are marked free, and its chain is there."""
    for back in (0, 32, 64):
        v.put(v.record(LONG) - back, b"\xe5")


# -- folders ----------------------------------------------------------------------------------


def lost_folder(v: Volume) -> None:
    """The records of a folder are overwritten."""
    v.put(v.record("/SUB") - 0, b"\xe5" + bytes(31))


def deleted_folder(v: Volume) -> None:
    """The records of a folder are marked free, and its chain is there."""
    for back in (0, 32):
        v.put(v.record("/SUB/Deep folder") - back, b"\xe5")


def folder_start_zero(v: Volume) -> None:
    """A folder has no first cluster."""
    v.start("/SUB/Deep folder", 0)


def folder_start_outside(v: Volume) -> None:
    """A folder starts beyond the end of the volume."""
    v.start("/SUB", v.geometry.entry_count + 9)


def folder_entry_free(v: Volume) -> None:
    """The entry of a folder's only cluster is free."""
    v.link(v.chain("/SUB/Deep folder")[0], 0)


def folder_entry_bad(v: Volume) -> None:
    """A folder's only cluster is marked bad."""
    v.link(v.chain("/SUB/Deep folder")[0], v.bad)


def folder_gone(v: Volume) -> None:
    """A folder starts in a free cluster, and it is nowhere."""
    chain = v.chain("/HOLLOW")
    v.start("/HOLLOW", 0)
    v.link(chain[0], 0)


def folder_in_itself(v: Volume) -> None:
    """A file becomes the folder that it is in."""
    chain = v.chain("/OTHER")
    v.start(F, chain[0])
    v.patch(F, 11, b"\x10")
    v.patch(F, 28, bytes(4))


def folder_in_ancestor(v: Volume) -> None:
    """A folder is one of those that it is in."""
    v.start("/SUB/Deep folder/Deeper", v.chain("/SUB")[0])


def folder_twice(v: Volume) -> None:
    """Two entries name one folder."""
    v.start("/HOLLOW", v.chain("/SUB")[0])


def garbage_folder(v: Volume) -> None:
    """What a folder's cluster holds is no folder."""
    v.put(v.place("/OTHER"), content("garbage", v.geometry.cluster_bytes))


def dots_wiped(v: Volume) -> None:
    """The first two records of a folder are zero, so that it seems to end there."""
    v.put(v.place("/SUB"), bytes(64))


def sector_wiped(v: Volume) -> None:
    """The first records of a folder are zero, a file's too."""
    v.put(v.place("/SUB"), bytes(96))


def dot_wrong(v: Volume) -> None:
    """`.` leads elsewhere."""
    v.put(v.place("/SUB") + 26, b"\x55")


def dot_dot_wrong(v: Volume) -> None:
    """`..` leads elsewhere."""
    v.put(v.place("/SUB/Deep folder") + 32 + 26, b"\x55")


def dot_renamed(v: Volume) -> None:
    """`.` has another name, so that the folder seems to contain itself."""
    v.put(v.place("/SUB"), b"NODOT      ")


def dot_no_folder(v: Volume) -> None:
    """`..` is no folder."""
    v.put(v.place("/SUB") + 32 + 11, b"\x20")


def dot_taken(v: Volume) -> None:
    """A file's record is where `.` belongs."""
    at = v.place("/OTHER")
    v.put(at, bytes(v.device.data[at + 64 : at + 96]))
    v.put(at + 64, b"\xe5")


def dot_in_root(v: Volume) -> None:
    """The root folder has a `.`."""
    v.put(v.free_record(), entry(b".          ", attributes=0x10))


def dot_extra(v: Volume) -> None:
    """A file is called `..`."""
    v.patch(D, 0, b"..         ")


# -- records ----------------------------------------------------------------------------------


def folder_length(v: Volume) -> None:
    """A folder has a length."""
    v.patch("/SUB", 28, b"\x07")


def dot_length(v: Volume) -> None:
    """`.` has a length."""
    v.put(v.place("/SUB") + 28, b"\x07")


def second_label(v: Volume) -> None:
    """The root folder has two labels."""
    v.put(v.free_record(), entry(b"SECOND     ", attributes=0x08))


def label_below(v: Volume) -> None:
    """A folder has a label."""
    v.put(v.free_record("/SUB"), entry(b"SECOND     ", attributes=0x08))


def label_bit(v: Volume) -> None:
    """A file is marked as a label."""
    v.patch(D, 11, b"\x28")


def label_bit_folder(v: Volume) -> None:
    """A folder is marked as a label."""
    v.patch("/OTHER", 11, b"\x18")


def label_with_cluster(v: Volume) -> None:
    """The label has a first cluster and a length."""
    at = v.device.data.find(b"GOOD       \x08")
    v.put(at + 26, v.chain(A)[0].to_bytes(2, "little") + b"\x05\0\0\0")


def label_letters(v: Volume) -> None:
    """The label has characters that no label has."""
    v.put(v.device.data.rfind(b"GOOD       \x08") + 4, b"+")


def case_bit(v: Volume) -> None:
    """Records say that there is no short name."""
    v.patch(A, 12, b"\x20")
    v.put(v.place("/SUB") + 12, b"\x20")


def attribute_bits(v: Volume) -> None:
    """Bits are set that mean nothing."""
    v.patch(A, 11, b"\xe0")


def bad_dates(v: Volume) -> None:
    """Dates that no calendar has."""
    v.patch(A, 13, b"\xc9" + b"\xff" * 4 + b"\x00\x5b")
    v.patch(A, 22, b"\xff\xff\x00\x5b")


def stale_copy(v: Volume) -> None:
    """Behind the end of the root folder is a record that leads to another file's clusters."""
    v.put(v.free_record() + 32, entry(b"OLD     TXT", cluster=v.chain(A)[0], length=9))


def end_amid(v: Volume) -> None:
    """A record in the middle of a folder is zero, so that it seems to end there."""
    at = v.record(B)
    assert at < v.record(SECOND)
    v.put(at, bytes(32))


# -- names ------------------------------------------------------------------------------------


def bad_short(v: Volume) -> None:
    """A short name has a character that no name has."""
    v.patch(A, 0, b"A*")


def bad_short_blank(v: Volume) -> None:
    """A short name begins with a space."""
    v.patch(A, 0, b" ")


def bad_short_of_long(v: Volume) -> None:
    """The short name of a file with a long one has a character that no name has."""
    v.patch(LONG, 3, b"\x01")


def same_short(v: Volume) -> None:
    """Two files have the same short name."""
    v.patch(Z, 0, b"A       TXT")


def same_long(v: Volume) -> None:
    """A short name is the long name of another file."""
    at = v.free_record()
    v.put(at, pack_long("z.Txt", b"OTHER   TXT") + entry(b"OTHER   TXT"))


def long_checksum(v: Volume) -> None:
    """The short name of a file was changed in one letter."""
    v.patch(LONG, 3, b"X")


def long_checksum_part(v: Volume) -> None:
    """One part of a long name has another checksum."""
    v.put(v.record(LONG) - 64 + 13, b"\x99")


def long_orphan(v: Volume) -> None:
    """Long-name records lead to no file."""
    at = v.free_record()
    v.put(at, pack_long("A name without a file.txt", b"ANAME~1 TXT"))


def long_stranger(v: Volume) -> None:
    """Before a short record is the long name of another file."""
    at = v.free_record()
    v.put(at, pack_long("Some other file.txt", b"SOMEOT~1TXT") + entry(b"STRANGERTXT"))


def long_order(v: Volume) -> None:
    """The parts of a long name have changed places."""
    at = v.record(LONG)
    first, second = (bytes(v.device.data[at - back : at - back + 32]) for back in (64, 32))
    v.put(at - 64, second + first)


def long_bad_letter(v: Volume) -> None:
    """A long name has a character that no name has."""
    v.put(v.record(LONG) - 32 + 1, b"*\0")


def long_fields(v: Volume) -> None:
    """Fields of a long-name record that should be zero are not."""
    v.put(v.record(LONG) - 32 + 12, b"\x01")
    v.put(v.record(LONG) - 32 + 26, b"\x05")
