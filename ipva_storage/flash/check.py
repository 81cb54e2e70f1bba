"""What is wrong with a flash directory: findings, without a write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipva_storage.errors import FlashError
from ipva_storage.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipva_storage.flash.nor import NorDevice


_KEEP: Final = (
    "leave a real appliance's flash as it is; else keep a copy (ipva disk convert -O "
    "monolithicSparse VM#flash flash-copy.vmdk) before you format it: ipva flash format --force VM"
)


def check(nor: NorDevice) -> Iterator[Finding]:
    """Look at every header, entry and object; yield what is wrong. Never writes.

    Raises:
        DeviceError: the device cannot be read.
    """
    from ipva_storage.flash.mount import mount

    try:
        mounted = mount(nor, read_only=True)
    except FlashError as error:
        yield Finding(
            "FLASH011",
            "clean marker",
            f"{error.message}; formatting the disk loses what it holds",
            where=nor.name,
            offset_bytes=error.offset_bytes,
            repair=_KEEP,
        )
        return
    for one in mounted.findings:
        yield Finding(one.code, one.structure, one.message, nor.name, one.offset_bytes, one.repair)
