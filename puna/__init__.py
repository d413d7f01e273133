"""Puna: own a language model, from raw text to chat. Import from the room that owns the name."""

__version__ = "0.1.0"
