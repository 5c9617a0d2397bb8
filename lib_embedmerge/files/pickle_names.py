"""What a pickle of an embedding may name beyond what torch's safe loader takes by itself: a short list of stand-ins.

None is the class or function of that name: each takes what the pickle gives and keeps plain data, so that nothing of
numpy or torch.nn runs. A1111's own list (modules/safe.py) has the same names. Tensors' own functions are torch's list.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_KINDS = MappingProxyType(
    {
        "f2": "float16", "f4": "float32", "f8": "float64", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
        "u1": "uint8", "b1": "bool", "c8": "complex64", "c16": "complex128",
    }
)  # fmt: skip
"""numpy's dtypes as its pickles spell them -> torch's. Objects, texts and records have none: they stay unread."""

_MAX_TEXT = 1000

MODULE_CLASS = "embedmerge.module_class"
"""No module's: what pickle_file.py puts in place of how torch's old form names classes."""

_LOCK = threading.Lock()
"""torch keeps one list for all threads: two that load at once must not take it from each other."""


class Parameters(dict[str, Any]):
    """torch.nn.ParameterDict and ParameterList: name -> tensor."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, Mapping):
            held = state.get("_parameters")
            # Before torch 1.12 all are there; since then those that are no Parameter stand beside them, in `_keys`.
            self.update(held if isinstance(held, Mapping) else {})
            names = state.get("_keys")
            self.update({name: state[name] for name in names if name in state} if isinstance(names, Mapping) else {})


class DType:
    """numpy.dtype. kind: `f4`.  order: `<`, `>`, `=` or `|`."""

    def __init__(self, kind: object = "", *_: object) -> None:
        self.kind = kind if isinstance(kind, str) else ""
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str):
            self.order = state[1]

    def values(self, raw: object) -> torch.Tensor | None:
        """1-D tensor of the values that these bytes are, None where they are no whole numbers or no numbers at all."""
        import torch

        name = _KINDS.get(self.kind)
        if name is None or not isinstance(raw, bytes):
            return None
        dtype: torch.dtype = getattr(torch, name)
        size = torch.empty((), dtype=dtype).element_size()
        if not raw or len(raw) % size:
            return torch.empty(0, dtype=dtype) if not raw else None
        data = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        if self.order == ">":
            data = data.reshape(-1, size).flip(1).reshape(-1)
        return data.view(dtype)


class Array:
    """numpy.ndarray."""

    def __init__(self, *_: object) -> None:
        self._tensor: torch.Tensor | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            return
        _, shape, dtype, is_fortran, raw = state
        values = dtype.values(raw) if isinstance(dtype, DType) else None
        sizes = shape if isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) else None
        if values is None or sizes is None or len(sizes) > 16 or math.prod(sizes) != len(values):
            return
        turned = values.reshape(sizes[::-1]).permute(*reversed(range(len(sizes)))) if is_fortran else None
        self._tensor = values.reshape(sizes) if turned is None else turned

    @property
    def tensor(self) -> torch.Tensor | None:
        """The numbers in their dtype and shape; None where it holds something else than numbers."""
        return self._tensor


class Opaque:
    """What nobody asks for: kept as nothing, whatever it was made with."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _array(kind: object = None, *_: object) -> object:
    return kind() if isinstance(kind, type) and issubclass(kind, Array) else Opaque()


def _scalar(dtype: object = None, raw: object = b"") -> object:
    """A plain number or text in place of numpy's."""
    if not isinstance(dtype, DType) or not isinstance(raw, bytes):
        return None
    values = dtype.values(raw)
    if values is not None:
        return values[0].item() if len(values) == 1 else None
    if dtype.kind.startswith("U") and len(raw) <= 4 * _MAX_TEXT:
        return raw.decode("utf-32-be" if dtype.order == ">" else "utf-32-le", errors="replace").rstrip("\0")
    return None


def _encoded(text: object = "", *_: object) -> bytes:
    """_codecs.encode and bytes: how protocol 2 spells bytes, and none of them."""
    return text.encode("latin-1", errors="replace") if isinstance(text, str) else b""


def _plain_dict(*_: object) -> dict[object, object]:
    """collections.defaultdict, whose default nobody needs."""
    return {}


def _module_class(_: object = None, kind: object = None, *__: object) -> object:
    """The class that torch's old form names together with its source text."""
    return kind if isinstance(kind, type) else Opaque


def _nothing(*_: object) -> None:
    """A type that a defaultdict is made with."""


PARAMETERS = ("torch.nn.modules.container.ParameterDict", "torch.nn.modules.container.ParameterList")
"""What the first textual inversions keep their vectors in."""

_STAND_INS: tuple[tuple[type | Callable[..., object], tuple[str, ...]], ...] = (
    (Parameters, PARAMETERS),
    (DType, ("numpy.dtype",)),
    (Array, ("numpy.ndarray",)),
    (_array, ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")),
    (_scalar, ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")),
    (_encoded, ("_codecs.encode", "builtins.bytes")),
    (_plain_dict, ("collections.defaultdict",)),
    (_module_class, (MODULE_CLASS,)),
    (_nothing, ("builtins.list", "builtins.dict", "builtins.int", "builtins.float", "builtins.str", "builtins.tuple")),
    (
        Opaque,
        (
            "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
            "pytorch_lightning.callbacks.model_checkpoint",
        ),
    ),
)

NAMES = frozenset(name for _, names in _STAND_INS for name in names)
"""Everything that a pickle may name, as `module.name`."""


def is_supported() -> bool:
    """Whether this torch can be told of more names; it can from 2.5 on."""
    import torch

    return hasattr(torch.serialization, "safe_globals")


@contextlib.contextmanager
def names_taken() -> Iterator[None]:
    """Let torch's safe loader take these names while inside. Does nothing where this torch cannot be told."""
    if not is_supported():
        yield
        return
    import torch

    stand_ins = [_under_name(one, name) for one, names in _STAND_INS for name in names]
    with _LOCK, torch.serialization.safe_globals(stand_ins):
        yield


def _under_name(stand_in: type | Callable[..., object], full_name: str) -> Any:
    """The stand-in as torch knows it by: its list goes by a thing's own module and name."""
    module, _, name = full_name.rpartition(".")
    if isinstance(stand_in, type):
        return type(name, (stand_in,), {"__module__": module})

    def function(*arguments: object) -> object:
        return stand_in(*arguments)

    function.__module__, function.__name__, function.__qualname__ = module, name, name
    return function
