"""On-disk formats: Construct definitions, and the NumPy dtypes derived from them.

Bytes only: no files, no policy. Importing a format does not import NumPy; `dtype_of` does.
"""

from ipva_formats._vectorise import NotVectorisable, dtype_of

__all__ = ["NotVectorisable", "dtype_of"]
