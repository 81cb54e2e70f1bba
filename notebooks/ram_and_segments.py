# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # RAM, segments, and what is lost
#
# The appliance keeps its PBX objects in a flash directory of 64 KiB segments. How many of the 901 it may use depends on the RAM of the VM. The
# vendor states two points: 224 segments at 64 MB, and 900 from 192 MB on. Between them the rule is our own interpolation; `SegmentRule.calibrate`
# makes one that also goes through points read from real boot traces.

# %%
# %matplotlib inline
from ipva_storage import flash
from ipva_storage.device import MemoryDevice
from ipva_storage.report import loss_figure, segments_figure
from ipva_storage.units import MIB

segments_figure(range(20, 257), stated={64: 224, 192: 900})

# %% [markdown]
# ## A directory with 30,000 objects
#
# The flash is emulated in memory: a program only clears bits, an erase sets a whole segment. The RAM allows 900 segments.

# %%
nor = flash.NorDevice(MemoryDevice(flash.PHYSICAL_SEGMENTS * flash.SEGMENT_BYTES))
flash.format(nor)
directory = flash.open(nor, segment_limit=900)
for first in range(0, 30_000, 1000):
    directory.batch({f"user{n:05d}".encode(): bytes(1000) for n in range(first, first + 1000)})
usage = directory.usage()
f"{usage.object_count:,} objects in {usage.segment_count_used} segments"

# %% [markdown]
# ## What a boot with less RAM would lose
#
# `plan` writes nothing. It names the objects that a boot with that many segments loses: while everything fits, none; below that, the newest.

# %%
lost = {
    ram: len(directory.plan(flash.DEFAULT_RULE.segment_count(ram * MIB)).lost)
    for ram in range(20, 193, 4)
}
loss_figure(lost, object_count=len(directory))

# %% [markdown]
# ## Shrinking, and growing back
#
# The loss is what the plan said, object by object. Growing back brings the space back, and not the objects.

# %%
segment_count = flash.DEFAULT_RULE.segment_count(64 * MIB)
planned = directory.plan(segment_count).lost
really = directory.shrink(segment_count)
assert really == planned
directory.close()
grown = flash.open(nor, segment_limit=900)
assert not set(grown.keys()) & set(planned)
f"{len(planned):,} lost at 64 MB, as planned; {len(grown):,} left after growing back to 192 MB"
