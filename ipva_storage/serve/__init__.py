"""The appliance's files over HTTP, read-only."""

from ipva_storage.serve.files import ApplianceFiles

__all__ = ["ApplianceFiles"]
