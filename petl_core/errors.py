"""The exception that means "the input is wrong": its message says what, where, what is allowed and what to do next."""


class UserError(ValueError):
    """Bad input. The command line prints the message without a traceback and exits with code 2."""
