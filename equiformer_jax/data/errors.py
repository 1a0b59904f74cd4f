"""What is wrong with a file that somebody brought, and where in it."""

from __future__ import annotations

import os


class DataError(ValueError):
    """A data file cannot be read, or says something that cannot be true.

    The message names the file, the record and the field as far as they are known, and what was
    expected: `aspirin.npz: frame 17: 'F': not finite`.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        message: str,
        *,
        record: str | int | None = None,
        field: str | None = None,
    ) -> None:
        """Builds the message.

        Args:
          file: the file, or the name of what else the data come from.
          message: what is wrong, and what was expected.
          record: which frame, molecule or row; a number is called a record.
          field: which array, column or key.
        """
        places = [os.fspath(file)]
        if record is not None:
            places.append(f"record {record}" if isinstance(record, int) else record)
        if field is not None:
            places.append(f"'{field}'")
        self._parts = (file, message, record, field)
        super().__init__(": ".join([*places, message]))

    def __reduce__(self) -> tuple:
        """Errors cross from worker processes to the one that waits for them."""
        return _data_error, (type(self), *self._parts)


def _data_error(
    kind: type[DataError],
    file: str | os.PathLike[str],
    message: str,
    record: str | int | None,
    field: str | None,
) -> DataError:
    return kind(file, message, record=record, field=field)
