"""Crash records on a block device."""
