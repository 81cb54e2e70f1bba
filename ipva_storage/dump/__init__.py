"""Crash records on a block device: an append-only ring that survives a power cut at every write.

The layout is ours (`formats/spec/dump.md`); the appliance's own is not public.
"""

from ipva_storage.dump.check import check
from ipva_storage.dump.log import CrashRecord, DumpLog
from ipva_storage.dump.superblock import identify, is_blank
from ipva_storage.dump.verbs import format, open  # noqa: A004 - the doors of every store

__all__ = ["CrashRecord", "DumpLog", "check", "format", "identify", "is_blank", "open"]
