"""Undo: what a job overwrites is saved in a journal first, and put back on demand.

```python
journal = UndoJournal.create(Folder("vm"), "disk.vmdk.undo")
with UndoDevice(RawDevice("vm/disk.vmdk", writable=True), journal) as device:
    device.write(0, b"changed")
images = ImageFolder("vm/disk.vmdk.undo")
journal.finish(images)
journal.close()

with RawDevice("vm/disk.vmdk.undo", writable=True) as file:
    restore(file, images)
```

How the journal is laid out: `formats/spec/undo.md`. Why so: ADR 0007.
"""

from ipva_storage.device.undo.device import UndoDevice, UndoFolder
from ipva_storage.device.undo.journal import UndoJournal
from ipva_storage.device.undo.places import ImageFolder, Images
from ipva_storage.device.undo.reader import JournalReader
from ipva_storage.device.undo.restore import Restoration, RestoredImage, restore

__all__ = [
    "ImageFolder",
    "Images",
    "JournalReader",
    "Restoration",
    "RestoredImage",
    "UndoDevice",
    "UndoFolder",
    "UndoJournal",
    "restore",
]
