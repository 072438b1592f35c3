"""The package's version, alone in a file so that setuptools can read it without importing the library."""

__version__ = "0.1.0"
