"""Stand-ins for what PyTorch writes into pickles: storages, types, tensors and parameters.

A storage is a NumPy vector here, and a tensor a read-only view of it with the tensor's own shape
and strides, so tensors that share memory in PyTorch share it here.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from equiformer_jax.restricted_pickle.stand_ins import Global, PickleError

_TYPES: Mapping[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "complex128": np.complex128,
    "complex64": np.complex64,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint64": np.uint64,
    "uint32": np.uint32,
    "uint16": np.uint16,
    "uint8": np.uint8,
    "bool": np.bool_,
}

_STORAGES: Mapping[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    # Bytes whose type comes with each tensor.
    "UntypedStorage": "uint8",
    "storage.UntypedStorage": "uint8",
    "storage._UntypedStorage": "uint8",
}


class StorageId(NamedTuple):
    """How a pickle refers to a storage that lies outside it.

    Attributes:
      dtype: type of its elements.
      key: its name.
      numel: number of its elements.
    """

    dtype: np.dtype[Any]
    key: str
    numel: int


def storage_id(identifier: Any) -> StorageId:
    """Checks an identifier that PyTorch wrote: `("storage", type, key, location, numel, ...)`.

    Raises:
      PickleError: it refers to something else, such as the source code of a module.
    """
    if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
        raise PickleError("it refers to something that is not the storage of a tensor")
    _, dtype, key, _, numel, *view = identifier
    if not isinstance(dtype, np.dtype) or not isinstance(key, str) or not _is_count(numel):
        raise PickleError(f"damaged reference to the storage {reprlib.repr(key)}")
    if any(part is not None for part in view):
        raise PickleError(
            f"the storage {reprlib.repr(key)} is a view of another (written before PyTorch 0.4)"
        )
    return StorageId(dtype, key, numel)


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """Returns the read-only view of a storage that is a tensor.

    Args:
      storage: contiguous vector.
      offset: index in it of the tensor's first element.
      size: shape of the tensor.
      stride: distance in elements along each axis.

    Raises:
      PickleError: the view leaves the storage, or an argument is of another kind.
    """
    # A strided vector would let the view below reach outside its memory.
    if not isinstance(storage, np.ndarray) or storage.ndim != 1 or not storage.flags.c_contiguous:
        raise PickleError("a tensor without a storage")
    if not (_is_count(offset) and _are_counts(size) and _are_counts(stride)):
        raise PickleError(
            f"a tensor of offset {reprlib.repr(offset)}, shape {reprlib.repr(size)} "
            f"and strides {reprlib.repr(stride)}"
        )
    if not math.prod(size):
        return np.empty(size, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(storage):
        raise PickleError(
            f"a tensor of shape {size} reaches element {last} of a storage that has {len(storage)}"
        )
    strides = [step * storage.itemsize for step in stride]
    # Through bytes, because bfloat16 has no buffer of its own; NumPy checks the bounds once more.
    view: np.ndarray = np.ndarray(
        size, storage.dtype, storage.view(np.uint8), offset * storage.itemsize, strides
    )
    view.flags.writeable = False
    return view


def _rebuild_typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
) -> np.ndarray:
    """A tensor of a type that no storage class has; its storage is untyped bytes."""
    if not isinstance(storage, np.ndarray) or not isinstance(dtype, np.dtype):
        raise PickleError("a tensor without a storage or a type")
    return rebuild_tensor(storage.view(dtype), offset, size, stride)


def _rebuild_parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor


def _rebuild_with_attributes(function: Any, _: Any, arguments: Any, __: Any) -> Any:
    """A tensor that carries Python attributes; they are dropped."""
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise PickleError("a tensor without the function that makes it")
    return function.stand_in(*arguments)


def _size(lengths: Any) -> tuple[int, ...]:
    if not _are_counts(lengths):
        raise PickleError(f"a shape {reprlib.repr(lengths)}")
    return lengths


def _device(kind: Any, index: Any = None) -> str:
    if not isinstance(kind, str) or len(kind) > 20 or not (index is None or _is_count(index)):
        raise PickleError(f"a device {reprlib.repr(kind)} with index {reprlib.repr(index)}")
    return kind if index is None else f"{kind}:{index}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) <= 32 and all(map(_is_count, values))


TORCH_OBJECTS: Mapping[str, Any] = {
    "torch.Size": _size,
    "torch.device": _device,
    "torch.Tensor": "torch.Tensor",  # only ever mentioned
    "torch.nn.parameter.Parameter": "torch.nn.parameter.Parameter",
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_with_attributes,
    **{f"torch.{name}": np.dtype(kind) for name, kind in _TYPES.items()},
    **{f"torch.{name}": np.dtype(_TYPES[kind]) for name, kind in _STORAGES.items()},
    **{f"torch.cuda.{name}": np.dtype(_TYPES[kind]) for name, kind in _STORAGES.items()},
}
"""Stand-ins for PyTorch's tensors, parameters, storages, types, sizes and devices."""
