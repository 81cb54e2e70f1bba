"""The codec of grains: every engine reads every other's streams, and refuses the same ones."""

from __future__ import annotations

import contextlib
import random
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipva_storage import vmdk
from ipva_storage.device import Folder, MemoryDevice, copy
from ipva_storage.errors import VmdkError
from ipva_storage.units import KIB, MIB
from ipva_storage.vmdk import codec
from ipva_storage.vmdk.codec import DEFAULT_LEVEL, LEVELS, Deflated, Deflater, inflate
from ipva_storage.vmdk.extent.header import read_header
from ipva_storage.vmdk.extent.markers import Kind, walk
from ipva_storage.vmdk.extent.stream import GRAIN_MARKER, record_bytes_max

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

GRAIN_BYTES = 64 * KIB
ENGINES = ["both", "isal", "libdeflate", "neither"]
"""What of the extra `fast` is installed."""
INFLATERS = ["both", "neither"]
"""Of these ISA-L inflates, or zlib."""


def use(monkeypatch: pytest.MonkeyPatch, engines: str) -> None:
    """Let only some engines be there; skip where one of them is not."""
    for package, name in {"isal": "_isal", "deflate": "_libdeflate"}.items():
        is_wanted = engines in ("both", {"deflate": "libdeflate"}.get(package, package))
        if is_wanted:
            pytest.importorskip(package, reason=f"{package} is not installed")
        else:
            monkeypatch.setattr(codec, name, lambda: None)


@pytest.fixture(params=ENGINES)
def engines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each set of engines that may be there."""
    use(monkeypatch, request.param)
    return str(request.param)


@pytest.fixture(params=INFLATERS)
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each engine that may inflate."""
    use(monkeypatch, request.param)
    return str(request.param)


def noise(length: int = GRAIN_BYTES, seed: int = 0) -> bytes:
    """What does not shrink."""
    return random.Random(seed).randbytes(length)


def log_grains(count: int) -> list[bytes]:
    """Lines of a log, on which ISA-L's streams are longer than zlib's."""
    rng, lines = random.Random(3), []
    for _ in range(count * GRAIN_BYTES // 60):
        when = f"2024-03-{rng.randrange(1, 29):02} {rng.randrange(24):02}:{rng.randrange(60):02}"
        lines.append(
            f"{when} host{rng.randrange(3)} ipva[{rng.randrange(9999)}]: call "
            f"{rng.getrandbits(32):08x} to {rng.randrange(9999):04} took {rng.randrange(900)} ms\n"
        )
    text = "".join(lines).encode()
    return [text[at * GRAIN_BYTES :][:GRAIN_BYTES] for at in range(count)]


GRAINS: dict[str, bytes] = {
    "empty": b"",
    "byte": b"x",
    "zeros": bytes(GRAIN_BYTES),
    "text": (b"one line and another\n" * 4000)[:GRAIN_BYTES],
    "log": log_grains(1)[0],
    "noise": noise(),
    "digits": noise(GRAIN_BYTES // 2).hex().encode(),
    "half": noise(GRAIN_BYTES // 2) + bytes(GRAIN_BYTES // 2),
    "large": (noise(100_000) + b"text" * 50_000) * 3,
}


@pytest.mark.parametrize("level", LEVELS)
def test_every_level(engines: str, level: int) -> None:
    """Each stream is zlib's: zlib and whatever inflates here find the grain in all of it."""
    grains = list(GRAINS.values())
    streams = Deflater(level).deflate(grains).streams
    for grain, stream in zip(grains, streams, strict=True):
        assert zlib.decompress(stream) == grain
        assert inflate(stream, len(grain)) == (grain, len(stream))


@pytest.mark.parametrize("level", LEVELS)
def test_room_that_a_stream_needs(engines: str, level: int) -> None:
    """What does not shrink grows by a few bytes only, and so fits where a reader looks for it."""
    for grain in Deflater(level).deflate([noise(seed=seed) for seed in range(4)]).streams:
        assert len(grain) <= GRAIN_BYTES + 64
        assert len(grain) + GRAIN_MARKER.size <= record_bytes_max(GRAIN_BYTES)


@given(
    parts=st.lists(
        st.tuples(st.binary(max_size=64), st.integers(1, 400), st.booleans()), max_size=8
    ),
    cuts=st.lists(st.integers(0, 30_000), max_size=3),
    level=st.sampled_from(LEVELS),
    deflating=st.sampled_from(ENGINES),
    inflating=st.sampled_from(INFLATERS),
    behind=st.binary(max_size=600),
)
def test_what_one_wrote_the_others_read(
    parts: list[tuple[bytes, int, bool]],
    cuts: list[int],
    level: int,
    deflating: str,
    inflating: str,
    behind: bytes,
) -> None:
    """Any grains, deflated by any engine, come back from any, whatever follows the stream."""
    data = b"".join(
        noise(len(part) * count, seed=count) if is_noise else part * count
        for part, count, is_noise in parts
    )
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    grains = [data[start:stop] for start, stop in pairwise(places)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(monkeypatch, deflating)
        streams = Deflater(level).deflate(grains).streams
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(monkeypatch, inflating)
        for grain, stream in zip(grains, streams, strict=True):
            assert inflate(bytes(stream) + behind, GRAIN_BYTES * 4) == (grain, len(stream))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer(engines: str, kind: type[Any]) -> None:
    """Grains and streams may be bytes, or views of a part of a buffer."""
    grain = GRAINS["half"]
    part = kind(b"??" + grain + b"??")[2:-2]
    for level in (1, 6, 9):
        (stream,) = Deflater(level).deflate([part]).streams
        assert inflate(kind(stream), GRAIN_BYTES) == (grain, len(stream))


# What engines do which grains


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The engine and the level of every compression from now on; both engines are zlib."""
    calls: list[tuple[str, int]] = []

    def compress(name: str, grain: ReadableBuffer, level: int) -> bytes:
        calls.append((name, level))
        return zlib.compress(grain, level)

    isal = SimpleNamespace(compress=partial(compress, "isal"))
    monkeypatch.setattr(codec, "_isal", lambda: isal)
    monkeypatch.setattr(codec, "_libdeflate", lambda: partial(compress, "libdeflate"))
    return calls


@pytest.mark.parametrize("level", sorted(set(LEVELS) - {DEFAULT_LEVEL}))
def test_engine_of_a_level(monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    """ISA-L does the levels that it has, and libdeflate those above."""
    calls = spied(monkeypatch)
    assert Deflater(level).deflate([GRAINS["text"]]).share is None
    assert calls == [("isal" if level <= 3 else "libdeflate", level)]


@pytest.mark.parametrize(
    ("engines", "level", "expected"),
    [("isal", 3, "isal"), ("isal", 4, "zlib"), ("libdeflate", 3, "libdeflate")],
)
def test_engine_where_one_is_absent(
    monkeypatch: pytest.MonkeyPatch, engines: str, level: int, expected: str
) -> None:
    """Levels of an engine that is absent are done by the next best one, at that level."""
    calls = spied(monkeypatch)
    monkeypatch.setattr(codec, "_libdeflate" if engines == "isal" else "_isal", lambda: None)
    (stream,) = Deflater(level).deflate([GRAINS["log"]]).streams
    assert calls == ([] if expected == "zlib" else [(expected, level)])
    assert stream == zlib.compress(GRAINS["log"], level)


@pytest.mark.parametrize(
    ("share", "thorough"), [(0.0, 0), (0.25, 2), (0.5, 4), (0.75, 6), (1.0, 8)]
)
def test_share_of_the_grains(monkeypatch: pytest.MonkeyPatch, share: float, thorough: int) -> None:
    """At the default level libdeflate does as many grains as it was given, spread evenly."""
    calls = spied(monkeypatch)
    done = Deflater(DEFAULT_LEVEL, share=share).deflate([GRAINS["text"]] * 8)
    assert done.share is None
    assert sorted(calls) == [("isal", 3)] * (8 - thorough) + [("libdeflate", 4)] * thorough
    halves = [calls[:4].count(("libdeflate", 4)), calls[4:].count(("libdeflate", 4))]
    assert halves == [thorough // 2, thorough // 2]


def test_share_is_learnt() -> None:
    """A sample tells how many grains libdeflate has to do: all, some, none, or nothing at all."""
    pytest.importorskip("isal", reason="isal is not installed")
    pytest.importorskip("deflate", reason="deflate is not installed")
    log = Deflater(DEFAULT_LEVEL).deflate([GRAINS["log"]]).share
    assert log is not None
    assert 0.2 < log <= 1
    assert Deflater(DEFAULT_LEVEL).deflate([GRAINS["digits"]]).share == 0
    assert Deflater(DEFAULT_LEVEL).deflate([GRAINS["noise"]]).share is None
    assert Deflater(DEFAULT_LEVEL).deflate([GRAINS["noise"], GRAINS["log"]]).share == log
    assert Deflater(DEFAULT_LEVEL).deflate([]) == Deflated([], None)


@pytest.mark.parametrize("engines", ENGINES)
def test_size_at_the_default_level(monkeypatch: pytest.MonkeyPatch, engines: str) -> None:
    """Streams of a log are about as long as those of zlib's level 6, with both engines or none."""
    use(monkeypatch, engines)
    grains = log_grains(20)
    size_bytes = sum(map(len, Deflater(DEFAULT_LEVEL).deflate(grains).streams))
    assert size_bytes <= 1.04 * sum(len(zlib.compress(grain, 6)) for grain in grains)


def test_levels_are_felt(engines: str) -> None:
    """The highest level makes shorter streams than the lowest."""
    grains = log_grains(2)
    sizes = [sum(map(len, Deflater(level).deflate(grains).streams)) for level in (1, 9)]
    assert sizes[1] < 0.98 * sizes[0]


def test_what_does_not_shrink_is_not_worked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind noise ISA-L's fastest try is enough for more noise, and what shrinks gets its due."""
    calls = spied(monkeypatch)
    grains = [noise(seed=1), noise(seed=2), GRAINS["log"], GRAINS["log"]]
    streams = Deflater(9).deflate(grains).streams
    assert calls == [
        ("libdeflate", 9),
        ("isal", 1),
        ("isal", 1),
        ("libdeflate", 9),
        ("libdeflate", 9),
    ]
    assert streams[2] == streams[3] == zlib.compress(GRAINS["log"], 9)


def test_the_same_every_time(engines: str) -> None:
    """The same grains give the same streams."""
    grains = [*GRAINS.values(), *log_grains(3)]
    assert Deflater(6).deflate(grains) == Deflater(6).deflate(grains)


# What is no stream


def damaged_streams() -> dict[str, tuple[bytes, str]]:
    """Streams of `GRAINS["text"]` with a fault, and what is said of it."""
    good = zlib.compress(GRAINS["text"])
    stored = zlib.compress(GRAINS["text"], 0)
    return {
        "nothing": (b"", "is cut"),
        "one byte": (good[:1], "is cut"),
        "only its head": (good[:2], "is cut"),
        "cut in the middle": (good[: len(good) // 2], "is cut"),
        "cut before its checksum": (good[:-4], "is cut"),
        "cut within its checksum": (good[:-1], "is cut"),
        "wrong checksum": (good[:-1] + bytes([good[-1] ^ 1]), "is damaged"),
        "wrong byte": (stored[:-100] + b"?" + stored[-99:], "is damaged"),
        "wrong check of its head": (good[:1] + bytes([good[1] ^ 1]) + good[2:], "is damaged"),
        "another method": (b"\x79\x18" + good[2:], "is damaged"),
        "too large a window": (b"\x88\x1c" + good[2:], "is damaged"),
        "a dictionary": (b"\x78\xbb" + good[2:], "is damaged"),
        "a kind of block that is none": (good[:2] + b"\x07" + good[3:], "is damaged"),
        "no head": (good[2:], "is damaged"),
        "gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + good[2:-4], "is damaged"),
        "noise": (noise(1000), "is damaged"),
        "zeros": (bytes(1000), "is damaged"),
    }


@pytest.mark.parametrize("fault", damaged_streams())
def test_damage_is_told(inflater: str, fault: str) -> None:
    """What is no stream, or a damaged one, is an error that says which, and nothing else."""
    data, words = damaged_streams()[fault]
    for size_max_bytes in (GRAIN_BYTES, GRAIN_BYTES + 1, 100 * GRAIN_BYTES):
        with pytest.raises(VmdkError, match=f"its compressed data {words}") as found:
            inflate(data, size_max_bytes)
        assert "Error" not in found.value.message
        assert "while decompressing" not in found.value.message


@given(
    name=st.sampled_from(sorted(GRAINS)),
    level=st.integers(0, 9),
    fault=st.sampled_from(["cut", "flip", "insert"]),
    at=st.floats(0, 1, exclude_max=True),
    value=st.integers(1, 255),
)
def test_faults_do_not_get_through(
    name: str, level: int, fault: str, at: float, value: int
) -> None:
    """A stream with any fault is refused, or holds the grain for all that; by every engine."""
    grain = GRAINS[name]
    data = bytearray(zlib.compress(grain, level))
    place = int(at * len(data))
    if fault == "cut":
        del data[place:]
    elif fault == "flip":
        data[place] ^= value
    else:
        data.insert(place, value)
    for engines in INFLATERS:
        with pytest.MonkeyPatch.context() as monkeypatch:
            use(monkeypatch, engines)
            with contextlib.suppress(VmdkError):
                plain, _ = inflate(data, len(grain))
                assert plain == grain
                assert fault != "cut"


def test_incomplete_codes_that_matter_not() -> None:
    """ISA-L reads what zlib refuses, where a code that is not used is damaged: the right bytes."""
    isal_zlib = pytest.importorskip("isal.isal_zlib", reason="isal is not installed")
    data = bytes.fromhex(
        "78da05c1b10100300802b05bad8a02fe3f377ded8ccc6507daab2968546b5fd74cb989213ccc67e312b3ac2e"
        "6677bce7d807f8a6eba606e21d533af36643138946dd290b29c8c4e99622336bd47e7428a63a2c85f6dee903"
        "c5f93c5e"
    )
    with pytest.raises(zlib.error):
        zlib.decompress(data)
    plain, used_bytes = inflate(data, GRAIN_BYTES)
    assert used_bytes == len(data)
    assert plain == isal_zlib.decompress(isal_zlib.compress(plain))
    assert zlib.adler32(plain) == int.from_bytes(data[-4:], "big")


@pytest.mark.parametrize("size_max_bytes", [0, 1, GRAIN_BYTES - 1])
def test_more_than_is_allowed(inflater: str, size_max_bytes: int) -> None:
    """What holds a byte more than may come out is refused; what holds just as many is not."""
    stream = zlib.compress(GRAINS["text"])
    with pytest.raises(VmdkError, match=f"holds more than {size_max_bytes} bytes"):
        inflate(stream, size_max_bytes)
    assert inflate(stream, GRAIN_BYTES) == (GRAINS["text"], len(stream))


def test_nothing_may_come_out(inflater: str) -> None:
    """A stream of nothing is one, even where nothing may come out."""
    stream = zlib.compress(b"")
    assert inflate(stream + b"behind", 0) == (b"", len(stream))


def test_bombs_cost_nothing(inflater: str) -> None:
    """A stream of 32 MiB of zeros stops at the grain's size, whatever memory it asks for."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(32)) + packer.flush()
    inflate(zlib.compress(b"import what it needs"), GRAIN_BYTES)
    tracemalloc.start()
    with pytest.raises(VmdkError, match="holds more than 65536 bytes"):
        inflate(bomb, GRAIN_BYTES)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < MIB + len(bomb)


# The extra `fast`


@pytest.fixture
def without_fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the extra `fast` is not installed: its packages cannot be imported."""
    for package in ("isal", "deflate"):
        monkeypatch.setitem(sys.modules, package, None)
    found = (codec._isal, codec._libdeflate)
    for engine in found:
        engine.cache_clear()
    yield
    for engine in found:
        engine.cache_clear()


@pytest.mark.usefixtures("without_fast")
def test_without_the_extra() -> None:
    """Where its packages are absent, zlib does all of it, at the level that was asked for."""
    assert codec._isal() is None
    assert codec._libdeflate() is None
    for level in LEVELS:
        done = Deflater(level).deflate([GRAINS["log"], GRAINS["noise"], GRAINS["text"]])
        assert done.share is None
        assert done.streams[0] == zlib.compress(GRAINS["log"], level)
        for grain, stream in zip(("log", "noise", "text"), done.streams, strict=True):
            assert inflate(stream, GRAIN_BYTES) == (GRAINS[grain], len(stream))


def test_findings_are_the_same_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with every fault in its grains has the same findings and reads the same either way."""
    folder, faults = Folder(tmp_path), damaged_streams()
    bomb = zlib.compress(bytes(GRAIN_BYTES + 1))
    short = zlib.compress(bytes(GRAIN_BYTES - 512))
    payloads = [*(data for data, _ in faults.values() if len(data) > 2), bomb, short]
    fill = partial(copy, MemoryDevice(noise(GRAIN_BYTES * (len(payloads) + 2))))
    size_bytes = GRAIN_BYTES * (len(payloads) + 2)
    vmdk.create(folder, "x.vmdk", size_bytes, subformat="streamOptimized", fill=fill)
    with folder.open("x.vmdk", writable=True) as raw:
        grains = [part for part in walk(raw, read_header(raw)) if part.kind is Kind.GRAIN]
        for grain, payload in zip(grains, payloads, strict=False):
            marker = GRAIN_MARKER.pack(grain.lba_sector, len(payload))
            raw.write(grain.sector * 512, marker + payload)
    found = []
    for engines in INFLATERS:
        with monkeypatch.context() as patch:
            use(patch, engines)
            findings = vmdk.check(folder.open("x.vmdk"), folder)
            lines = [(one.code, one.offset_bytes, one.message.split(" (i")[0]) for one in findings]
            found.append((lines, reads_as(folder, len(payloads) + 2)))
    assert found[0] == found[1]
    lines, grains_read = found[0]
    assert len(lines) >= len(payloads)
    assert grains_read[: len(payloads)] == [None] * len(payloads)
    assert None not in grains_read[len(payloads) :]


def reads_as(folder: Folder, grain_count: int) -> list[bytes | None]:
    """What each grain reads as; None where it does not."""
    read: list[bytes | None] = []
    with vmdk.open(folder.open("x.vmdk"), folder) as disk:
        for number in range(grain_count):
            buffer = bytearray(GRAIN_BYTES)
            try:
                disk.read_into(number * GRAIN_BYTES, buffer)
            except VmdkError:
                read.append(None)
            else:
                read.append(bytes(buffer))
    return read
