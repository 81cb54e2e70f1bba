"""What a repair could not bring back, and what it made of clusters that belonged to nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lost:
    """Content that is not where its file or folder says, or is known by nothing that is left."""

    path: str
    """The file or folder; empty where it is the volume as a whole."""
    reason: str
    """What is lost of it, in a few words."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A file made of clusters that belonged to none, or a folder put back."""

    path: str
    """Where it is now."""
    content_bytes: int
