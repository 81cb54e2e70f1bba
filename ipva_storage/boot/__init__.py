"""The firmware image and its loader."""
