"""Errors that end a program with one line on stderr instead of a traceback, since a user can mend them."""


class RunError(Exception):
    """A run that cannot go on or has failed: exit code 1."""


class UsageError(ValueError):
    """A command line or a recipe that cannot be followed, the message naming the key: exit code 2."""
