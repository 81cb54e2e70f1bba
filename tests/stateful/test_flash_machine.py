"""The flash directory against a dict, with power cuts, remounts and changes of RAM."""

from hypothesis import HealthCheck, settings

from ipva_storage.testing.flash_machine import FlashMachine

TestFlashDirectory = FlashMachine.TestCase
TestFlashDirectory.settings = settings(
    stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
