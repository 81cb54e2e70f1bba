"""Making a volume larger with all its files: `volume.grow`, and `disk.grow_disk` with partition.

The order is what it is about; `docs/adr/0011-fat-grow.md` tells it and why.
"""

from ipva_storage.fat.growing.disk import GrownDisk, grow_disk
from ipva_storage.fat.growing.volume import Grown, grow

__all__ = ["Grown", "GrownDisk", "grow", "grow_disk"]
