"""Storage toolkit and simulator for the innovaphone Virtual Appliance."""

__version__ = "0.1.0"
