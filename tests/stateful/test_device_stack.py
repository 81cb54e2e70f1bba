"""Devices, alone and stacked, behave like a bytearray whatever is done to them."""

from __future__ import annotations

from ipva_storage.testing.device_machine import DeviceMachine, OverlayMachine, StackMachine

TestMemory = DeviceMachine.TestCase
TestOverlay = OverlayMachine.TestCase
TestStack = StackMachine.TestCase
