"""Which parameters of a file are not those of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Shape = tuple[int, ...]


def describe_mismatch(
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    *,
    ignored: Collection[str] = (),
    ones_count: bool = True,
) -> str:
    """Names every parameter that is missing, unexpected or of another shape.

    Args:
      found: shapes by name, of the file.
      expected: shapes by name, of the model.
      ignored: names that the file may have, too.
      ones_count: whether axes of length one have to agree.

    Returns:
      The three lists, empty ones left out; nothing where all fit.
    """

    def compared(shape: Shape) -> Shape:
        return shape if ones_count else tuple(size for size in shape if size != 1)

    lists = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected and name not in ignored],
        "of another shape": [
            f"{name} (is {found[name]}, expected {shape})"
            for name, shape in expected.items()
            if name in found and compared(found[name]) != compared(shape)
        ],
    }
    return "; ".join(f"{title}: {', '.join(names)}" for title, names in lists.items() if names)
