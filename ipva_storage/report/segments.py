"""Pictures of what RAM means for the flash directory. Needs the extra `report` (matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipva_storage.flash import DEFAULT_RULE
from ipva_storage.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ipva_storage.flash import SegmentRule


def segments_figure(
    rams_mib: Iterable[int], *, rule: SegmentRule = DEFAULT_RULE, stated: Mapping[int, int]
) -> Figure:
    """Segments that the flash directory may use, against RAM.

    Args:
        rams_mib: RAM sizes to draw the rule at, in MiB, ascending.
        rule: the rule to draw.
        stated: points that the vendor states, RAM in MiB to segments; drawn as dots.
    """
    figure, axes = _axes("RAM decides how much of the flash the directory may use")
    rams = list(rams_mib)
    axes.plot(rams, [rule.segment_count(ram * MIB) for ram in rams], label="rule")
    axes.plot(list(stated), list(stated.values()), "o", label="stated by the vendor")
    axes.set_xlabel("RAM (MiB)")
    axes.set_ylabel("segments of 64 KiB")
    axes.legend()
    return figure


def loss_figure(lost_by_ram_mib: Mapping[int, int], *, object_count: int) -> Figure:
    """Objects that a boot would lose, against the RAM it boots with.

    Args:
        lost_by_ram_mib: RAM in MiB to the number of objects lost.
        object_count: how many are stored.
    """
    figure, axes = _axes(f"What a boot with less RAM loses of {object_count:,} objects")
    rams = sorted(lost_by_ram_mib)
    axes.step(rams, [lost_by_ram_mib[ram] for ram in rams], where="post", color="tab:red")
    axes.set_xlabel("RAM (MiB)")
    axes.set_ylabel("objects lost")
    axes.set_ylim(bottom=0)
    return figure


def _axes(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return figure, axes
