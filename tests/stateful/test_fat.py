"""The FAT volume behaves as a dict of bytes, and its check stays silent."""

from __future__ import annotations

from hypothesis import settings

from ipva_storage.testing.fat_machine import FatMachine

TestFatMachine = FatMachine.TestCase
TestFatMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
