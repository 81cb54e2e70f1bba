"""Pictures and pages for people."""

from ipva_storage.report.segments import loss_figure, segments_figure

__all__ = ["loss_figure", "segments_figure"]
