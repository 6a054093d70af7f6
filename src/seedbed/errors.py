"""Errors that a user sees as one line."""


class ConfigError(ValueError):
    """A mistake in a config; the message names the key, the value and what is allowed."""
