"""The emulated flash: NOR device, segments tied to RAM, and the directory of objects."""
