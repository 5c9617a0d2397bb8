"""Text encoders that can be run: the shapes of transformers' own models, two thin layers at real widths.

encoders = {key: runnable_encoder(key) for key in WIDTHS}      # state dicts, float16
reference(encoders["clip_g"], "clip_g", [320, 2368])           # what the plain model makes of two tokens
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from checkpoint_files import TABLE, WIDTHS, Tensors

TOKENS = (0, 320, 1125, 1929, 2368, 49406, 49407)
"""The rows of the token tables that are not zero: `!`, a, photo, dog, cat, start and end."""

_ROWS, _LAYERS, _INNER = 49408, 2, 48
_HEADS = {"clip_l": 12, "clip_g": 20, "clip_h": 16}


def plain_model(key: str) -> Any:
    """transformers' model, configured as the published one of that key but for the size of its layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what transformers imports
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        try:
            from transformers.modeling_utils import no_init_weights
        except ImportError:  # since version 5
            from transformers.initialization import no_init_weights
    config = CLIPTextConfig(
        vocab_size=_ROWS,
        hidden_size=WIDTHS[key],
        intermediate_size=_INNER,
        projection_dim=WIDTHS[key],
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS[key],
        hidden_act="quick_gelu" if key == "clip_l" else "gelu",
        bos_token_id=49406,
        eos_token_id=49407,
    )
    with no_init_weights():  # which takes longer than all else here
        return (CLIPTextModelWithProjection if key == "clip_g" else CLIPTextModel)(config).eval()


def runnable_encoder(key: str, seed: int = 0) -> Tensors:
    """A state dict in Hugging Face naming: random float16 numbers, large enough that every layer matters."""
    generator = torch.Generator().manual_seed(seed * 1000 + WIDTHS[key])
    with torch.device("meta"):
        named = plain_model(key).named_parameters()
    parameters = {name if name.startswith("text_") else f"text_model.{name}": parameter for name, parameter in named}
    tensors = {}
    for name, parameter in parameters.items():
        shape = (len(TOKENS), WIDTHS[key]) if name == TABLE else parameter.shape
        tensors[name] = (torch.randn(shape, generator=generator) * 0.03 + ("norm" in name) * 0.5).half()
    table = torch.zeros(_ROWS, WIDTHS[key], dtype=torch.float16)
    table[list(TOKENS)] = tensors[TABLE]
    return {**tensors, TABLE: table}


def reference(tensors: Tensors, key: str, ids: list[int]) -> Tensors:
    """What the plain model makes of a text of these tokens, padded to 77 positions as web UIs do it.

    last, penultimate: the states at the tokens and the end.  pooled: of clip_g.
    all: the states of all 77 positions after each layer, before the first one at index 0.  normed: the last ones.
    """
    model = plain_model(key)
    own = model.state_dict()  # since version 5 of transformers its names can lack their beginning
    weights = {name if name in own else name.removeprefix("text_model."): value for name, value in tensors.items()}
    missing, unknown = model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    assert set(missing) <= {"text_model.embeddings.position_ids"} and not unknown  # a buffer, before transformers 4.31
    padding = 49407 if key == "clip_l" else 0
    padded = [49406, *ids, 49407] + [padding] * (75 - len(ids))
    with torch.no_grad():
        found = model(input_ids=torch.tensor([padded]), output_hidden_states=True)
    kept = slice(1, len(ids) + 2)
    states = {"last": found.last_hidden_state[0, kept], "penultimate": found.hidden_states[-2][0, kept]}
    whole = {"all": torch.stack(found.hidden_states)[:, 0], "normed": found.last_hidden_state[0]}
    return states | whole | ({"pooled": found.text_embeds[0]} if key == "clip_g" else {})
