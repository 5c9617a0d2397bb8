"""Pictures as ComfyUI's nodes exchange and show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from PIL.Image import Image


def to_image(picture: Image) -> torch.Tensor:
    """A picture as an IMAGE of ComfyUI: float32 [1, height, width, 3] from 0 to 1."""
    values = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return values.reshape(1, picture.height, picture.width, 3).to(torch.float32) / 255


def show_picture(image: torch.Tensor) -> dict[str, Any]:
    """What a node returns to show an IMAGE below it, as the node PreviewImage does."""
    from nodes import PreviewImage

    shown: dict[str, Any] = PreviewImage().save_images(image)["ui"]
    return shown
