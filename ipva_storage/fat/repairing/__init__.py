"""Mending a volume from what is left of it: boot sector, table copies, chains, folders, summary."""

from ipva_storage.fat.repairing.draft import Draft
from ipva_storage.fat.repairing.lost import Lost, Recovered
from ipva_storage.fat.repairing.volume import Repaired, repair

__all__ = ["Draft", "Lost", "Recovered", "Repaired", "repair"]
