"""Errors on their way from a worker process to the process that waits for its results."""

from __future__ import annotations

import pickle


def portable(error: Exception) -> Exception:
    """An error of the same kind and message that survives pickling; the error itself if it does.

    A class whose constructor takes more than a message, such as `DataError`, can be pickled but not
    unpickled, and its message would be lost on the way. The nearest built-in class goes instead.

    Args:
      error: any error.
    """
    try:
        if str(pickle.loads(pickle.dumps(error))) == str(error):
            return error
    except Exception:  # whatever a foreign class raises there
        pass
    kind = next(base for base in type(error).__mro__ if base.__module__ == "builtins")
    return kind(str(error))
