"""The classes and functions that a pickle of an embedding may import beyond the own list of torch's safe loader.

Each is replaced by a stand-in, which takes the arguments in the pickle and keeps plain data, so that no code of numpy
or torch.nn runs. A1111's list (modules/safe.py) has the same names. The functions of tensors are on torch's own list.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy

_KINDS = frozenset(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1", "c8", "c16"))
"""numpy's dtypes as its pickles spell them. Objects, texts and records are missing, so they stay unread."""

_MAX_TEXT = 1000

MODULE_CLASS = "embedmerge.module_class"
"""A name of no real module; pickle_rewriting.py writes it where torch's old form names a class with its source."""

_LOCK = threading.Lock()
"""Held while torch's list is changed: all threads share it, so two loads would undo each other's changes."""


class Parameters(dict[str, Any]):
    """Stand-in for torch.nn.ParameterDict and ParameterList: name -> tensor."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, Mapping):
            parameters = state.get("_parameters")
            # Since torch 1.12 tensors that are no Parameter are attributes, listed in `_keys`.
            self.update(parameters if isinstance(parameters, Mapping) else {})
            names = state.get("_keys")
            self.update({name: state[name] for name in names if name in state} if isinstance(names, Mapping) else {})


class DType:
    """Stand-in for numpy.dtype.

    kind: as numpy's pickles spell it, such as `f4`.  order: of the bytes, `<`, `>`, `=` or `|`.
    """

    def __init__(self, kind: object = "", *_: object) -> None:
        self.kind = kind if isinstance(kind, str) else ""
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str):
            self.order = state[1]

    def values(self, raw: object) -> numpy.ndarray | None:
        """The values in some bytes, 1-D; None if the dtype has no numbers or the last value is cut off."""
        if self.kind not in _KINDS or not isinstance(raw, bytes):
            return None
        stored = numpy.dtype(self.kind).newbyteorder(">" if self.order == ">" else "<")
        if len(raw) % stored.itemsize:
            return None
        return numpy.frombuffer(raw, stored).astype(stored.newbyteorder("="))


class Array:
    """Stand-in for numpy.ndarray, which is made of the pickle's plain data alone."""

    def __init__(self, *_: object) -> None:
        self._values: numpy.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            return
        _, shape, dtype, is_fortran, raw = state
        values = dtype.values(raw) if isinstance(dtype, DType) else None
        sizes = shape if isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) else None
        if values is None or sizes is None or len(sizes) > 16 or math.prod(sizes) != len(values):
            return
        self._values = values.reshape(sizes, order="F" if is_fortran else "C")

    @property
    def values(self) -> numpy.ndarray | None:
        """The array in its own dtype and shape, or None if it holds anything but numbers."""
        return self._values


class Opaque:
    """Stand-in for objects that nobody reads: it accepts any arguments and any state, and keeps none."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _make_array(kind: object = None, *_: object) -> object:
    """Stand-in for numpy's _reconstruct, which makes an empty array."""
    return kind() if isinstance(kind, type) and issubclass(kind, Array) else Opaque()


def _make_scalar(dtype: object = None, raw: object = b"") -> object:
    """Stand-in for numpy's scalar: a plain number or text; None for values of any other dtype."""
    if not isinstance(dtype, DType) or not isinstance(raw, bytes):
        return None
    values = dtype.values(raw)
    if values is not None:
        return values[0].item() if len(values) == 1 else None
    if dtype.kind.startswith("U") and len(raw) <= 4 * _MAX_TEXT:
        return raw.decode("utf-32-be" if dtype.order == ">" else "utf-32-le", errors="replace").rstrip("\0")
    return None


def _encode(text: object = "", *_: object) -> bytes:
    """Stand-in for _codecs.encode, by which protocol 2 writes bytes, and for bytes, by which it writes empty ones."""
    return text.encode("latin-1", errors="replace") if isinstance(text, str) else b""


def _make_dict(*_: object) -> dict[object, object]:
    """Stand-in for collections.defaultdict: a plain dict, because nobody needs the default."""
    return {}


def _find_module_class(_: object = None, kind: object = None, *__: object) -> object:
    """Stand-in for the lookup of a class that torch's old form names together with its source text."""
    return kind if isinstance(kind, type) else Opaque


def _make_nothing(*_: object) -> None:
    """Stand-in for the type of a defaultdict's default."""


PARAMETERS = ("torch.nn.modules.container.ParameterDict", "torch.nn.modules.container.ParameterList")
"""The classes in which the first textual inversions keep their vectors."""

_STAND_INS: tuple[tuple[type | Callable[..., object], tuple[str, ...]], ...] = (
    (Parameters, PARAMETERS),
    (DType, ("numpy.dtype",)),
    (Array, ("numpy.ndarray",)),
    (_make_array, ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")),
    (_make_scalar, ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")),
    (_encode, ("_codecs.encode", "builtins.bytes")),
    (_make_dict, ("collections.defaultdict",)),
    (_find_module_class, (MODULE_CLASS,)),
    (
        _make_nothing,
        ("builtins.list", "builtins.dict", "builtins.int", "builtins.float", "builtins.str", "builtins.tuple"),
    ),
    (
        Opaque,
        (
            "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
            "pytorch_lightning.callbacks.model_checkpoint",
        ),
    ),
)

NAMES = frozenset(name for _, names in _STAND_INS for name in names)
"""All names that stand-ins replace, as `module.name`."""


def is_supported() -> bool:
    """Whether names can be added to the list of torch's safe loader, which is so from torch 2.5 on."""
    import torch

    return hasattr(torch.serialization, "safe_globals")


@contextlib.contextmanager
def accept_names() -> Iterator[None]:
    """Make torch's safe loader accept NAMES, as their stand-ins, inside the `with` block.

    Does nothing if this version of torch has no list to add to (see `is_supported`).
    """
    if not is_supported():
        yield
        return
    import torch

    stand_ins = [_with_full_name(stand_in, name) for stand_in, names in _STAND_INS for name in names]
    with _LOCK, torch.serialization.safe_globals(stand_ins):
        yield


def _with_full_name(stand_in: type | Callable[..., object], full_name: str) -> Any:
    """A copy of a stand-in with the module and name of what it replaces, by which torch's list finds it."""
    module, _, name = full_name.rpartition(".")
    if isinstance(stand_in, type):
        return type(name, (stand_in,), {"__module__": module})

    def function(*arguments: object) -> object:
        return stand_in(*arguments)

    function.__module__, function.__name__, function.__qualname__ = module, name, name
    return function
