"""Reading other people's pickles without running them.

Python's own `pickle` lets a file call any function of any installed package. The data sets and
checkpoints of this field are pickles all the same, so this package reads them its own way: an
interpreter of pickle's instructions (`interpreter`) that knows only what it is handed, tables of
stand-ins for the classes of the standard library (`stand_ins`), of NumPy (`numpy_objects`) and of
PyTorch (`torch_objects`), and the stream that PyTorch wrote before 1.6 and still writes inside
other pickles (`torch_stream`). Neither `pickle` nor `torch` is imported.
"""

from __future__ import annotations

from equiformer_jax.restricted_pickle.interpreter import read_pickle
from equiformer_jax.restricted_pickle.numpy_objects import NUMPY_OBJECTS
from equiformer_jax.restricted_pickle.stand_ins import (
    CONTAINERS,
    Global,
    Pending,
    PickleError,
    Record,
    UnknownNameError,
    record_of,
)
from equiformer_jax.restricted_pickle.torch_objects import TORCH_OBJECTS, StorageId, storage_id
from equiformer_jax.restricted_pickle.torch_stream import (
    is_torch_stream,
    load_tensor_bytes,
    read_torch_stream,
)

__all__ = [
    "CONTAINERS",
    "NUMPY_OBJECTS",
    "TORCH_OBJECTS",
    "Global",
    "Pending",
    "PickleError",
    "Record",
    "StorageId",
    "UnknownNameError",
    "is_torch_stream",
    "load_tensor_bytes",
    "read_pickle",
    "read_torch_stream",
    "record_of",
    "storage_id",
]
