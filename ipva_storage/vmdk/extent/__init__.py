"""The parts of a disk: one module a kind of extent, each a device of its own."""
