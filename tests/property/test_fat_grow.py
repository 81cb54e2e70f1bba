"""Random trees on volumes that grow by random steps: all contents stay, nothing wrong is found."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ipva_storage import fat
from ipva_storage.device import MemoryDevice
from ipva_storage.errors import NoSpaceError
from ipva_storage.fat.growing import grow
from ipva_storage.testing.fat_growth import codes, contents, fill
from ipva_storage.units import KIB


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    start_kib=st.integers(64, 900),
    steps=st.lists(st.floats(1.001, 6), min_size=1, max_size=4),
    cluster=st.sampled_from([512, 1024, 4096]),
    fat_count=st.integers(1, 3),
    is_full=st.booleans(),
)
def test_everything_stays(
    seed: int, start_kib: int, steps: list[float], cluster: int, fat_count: int, is_full: bool
) -> None:
    """After each step every file is as it was, and the volume takes more of them."""
    device = MemoryDevice(start_kib * KIB)
    fat.format(device, fat_bits=12, cluster_bytes=cluster, fat_count=fat_count)
    count = start_kib // 60 if cluster == 4096 else start_kib // 30
    fill(device, file_count=count, is_full=is_full, seed=seed)
    expected = contents(device)
    for step, factor in enumerate(steps):
        device.resize(min(int(device.size_bytes * factor), 24 << 20) // 512 * 512)
        try:
            grow(device)
        except NoSpaceError:
            assert fat_count == 1 or is_full
        assert contents(device) == expected
        assert not codes(device)
        with fat.open(device) as volume:
            data = bytes([step]) * min(volume.free_bytes // 3, 50_000)
            if data:
                volume.write(f"/step {step}", data)
                expected[f"/step {step}"] = data
