"""The version of this program. A study records it, and `autoresearch verify` compares it."""

__version__ = "0.13.0"
