"""Graphs that PyTorch Geometric pickled, of its versions 1 and 2, as plain dicts of arrays.

Neither that library nor PyTorch is needed, and nothing in a pickle is run: it is interpreted, and
may mention only the few names in `_ALLOWED`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.restricted_pickle import (
    CONTAINERS,
    NUMPY_OBJECTS,
    TORCH_OBJECTS,
    PickleError,
    Record,
    load_tensor_bytes,
    read_pickle,
    record_of,
)

_DATA = "torch_geometric.data.data.Data"
_STORAGE = "torch_geometric.data.storage.GlobalStorage"

_ALLOWED: Mapping[str, Any] = {
    **CONTAINERS,
    **NUMPY_OBJECTS,
    **TORCH_OBJECTS,
    "torch.storage._load_from_bytes": load_tensor_bytes,
    **{name: record_of(name) for name in (_DATA, _STORAGE)},
    # Only ever mentioned: classes that version 2 notes beside the fields.
    **{
        f"torch_geometric.data.data.{name}": f"torch_geometric.data.data.{name}"
        for name in ("DataEdgeAttr", "DataTensorAttr")
    },
}

# The attribute in which version 1 keeps a number of atoms that was set by hand.
_NUM_NODES = "__num_nodes__"


def read_graph_object(
    content: bytes, file: str | os.PathLike[str], record: str | int
) -> dict[str, Any]:
    """Reads one pickled `Data` object, or a pickled dict of the same fields.

    Version 1 keeps the fields as attributes of the object, version 2 in a storage inside of it.

    Args:
      content: the pickle.
      file: where it is from, for messages.
      record: its number or name in the file, for messages.

    Returns:
      The fields by name, those that are None left out; tensors are read-only arrays of their own
      shape and type, anything else is as it was pickled. `__num_nodes__` is called `num_nodes`.

    Raises:
      DataError: the pickle is damaged, asks for a name that is not on the list, or holds something
        else than a graph.
    """
    try:
        graph = read_pickle(io.BytesIO(content), _ALLOWED)
    except PickleError as error:
        raise DataError(file, str(error), record=record) from error
    fields = _fields(graph)
    if fields is None:
        raise DataError(
            file, f"expected a pickled graph, found {_kind(graph)} without fields", record=record
        )
    present = {_public_name(name): value for name, value in fields.items() if value is not None}
    for name, value in present.items():
        # A view of few numbers may pose as many; what is copied from it later must stay small.
        if isinstance(value, np.ndarray) and value.nbytes > len(content):
            complaint = f"an array of {value.nbytes} bytes in a record of {len(content)}"
            raise DataError(file, complaint, record=record, field=name)
    return present


def _fields(graph: Any) -> dict[str, Any] | None:
    """The dict in which an object of either version, or a plain dict, keeps its fields."""
    fields = graph
    if _is_record(graph, _DATA):
        fields = graph.state
        if isinstance(fields, dict) and "_store" in fields:
            storage = fields["_store"]
            state = storage.state if _is_record(storage, _STORAGE) else None
            fields = state.get("_mapping") if isinstance(state, dict) else None
    if isinstance(fields, dict) and all(isinstance(name, str) for name in fields):
        return fields
    return None


def _is_record(value: Any, class_name: str) -> bool:
    return isinstance(value, Record) and value.class_name == class_name


def _public_name(name: str) -> str:
    return "num_nodes" if name == _NUM_NODES else name


def _kind(value: Any) -> str:
    return value.class_name if isinstance(value, Record) else f"a {type(value).__name__}"
