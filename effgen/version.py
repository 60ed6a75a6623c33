"""The version of the installed package; pyproject.toml holds it."""

from importlib.metadata import version

__version__ = version("effgen")
