"""The pictures of RAM and segments."""

from __future__ import annotations

import io

import numpy as np

from ipva_storage.flash import DEFAULT_RULE
from ipva_storage.report import loss_figure, segments_figure
from ipva_storage.units import MIB


def test_the_curve_is_the_rule_and_the_dots_are_the_stated_points() -> None:
    """What is drawn is what the rule says, at each RAM size."""
    figure = segments_figure(range(20, 257), stated={64: 224, 192: 900})
    curve, dots = figure.axes[0].lines
    assert np.asarray(curve.get_ydata()).tolist() == [
        DEFAULT_RULE.segment_count(ram * MIB) for ram in range(20, 257)
    ]
    assert np.asarray(dots.get_xdata()).tolist() == [64, 192]
    assert np.asarray(dots.get_ydata()).tolist() == [224, 900]


def test_the_loss_is_drawn_in_order_of_ram_and_becomes_a_picture() -> None:
    """Losses given in any order are drawn ascending, and the figure saves as PNG."""
    figure = loss_figure({64: 10, 20: 500, 192: 0}, object_count=1000)
    (steps,) = figure.axes[0].lines
    assert np.asarray(steps.get_ydata()).tolist() == [500, 10, 0]
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")
