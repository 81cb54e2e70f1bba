"""The appliance's configuration file: every line kept, the known kinds with named fields.

The syntax is the vendor's and public in part: `config change|add`, `vars create` and
`mod cmd FLASHDIR0 add-item` lines are known; what is not is kept as it stands.
"""

from ipva_storage.config.file import LIMIT_BYTES, ConfigFile, decode, encode, parse
from ipva_storage.config.item import Attribute, FlashItem, parse_attributes
from ipva_storage.config.line import Line, ModuleConfig, Variable

__all__ = [
    "LIMIT_BYTES",
    "Attribute",
    "ConfigFile",
    "FlashItem",
    "Line",
    "ModuleConfig",
    "Variable",
    "decode",
    "encode",
    "parse",
    "parse_attributes",
]
