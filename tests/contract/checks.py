"""The contract of hosts.port.Host, as plain functions over a host and its tools.

Nothing of pytest, so that the same checks run inside a web UI's own environment (tests/webui). Every check leaves the
host as it found it. CHECKS has them by name.
"""

from __future__ import annotations

import gc
import html
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from arrays import as_tensor, equal

from contract.texts import BROKEN_SOURCES, READ_IN_TWO_WAYS, TRICKY_TEXTS
from contract.tools import Tools
from lib_embedmerge import open_checkpoint
from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.core.evaluate import Vectors, evaluate
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Fingerprint, Model, TextEncoder, Tokenizer
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.errors import EmbedMergeError, EvaluationError, ExpressionError
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.recipes.fit import measure_fit

CAT, DOG, PHOTO = 2368, 1929, 1125
_IDS = (CAT, DOG, CAT, 0, 267, PHOTO, 49406, 49407)
_NAME = "emctrct1"


def check_active_tells_the_model(host: Host, tools: Tools) -> None:
    active = host.active()
    facts = active.model.facts
    checkpoint, encoder_files = tools.files()
    assert host.title
    assert host.program
    assert str(Path.home()) not in host.program
    assert facts.title
    assert facts.file_name == checkpoint.name
    assert facts.text_encoder_files == tuple(path.name for path in encoder_files)
    assert tuple(encoder.key for encoder in active.model.encoders) == facts.architecture.encoders
    whole_files = () if encoder_files else (checkpoint.name,)
    assert active.checkpoint is None or active.checkpoint.name in whole_files
    assert facts.sha256 is None or len(bytes.fromhex(facts.sha256)) == 32
    assert active.vectors_from
    assert all(note.endswith(".") for note in active.warnings), active.warnings
    is_named = any("The text encoders come from" in warning for warning in active.warnings)
    assert bool(encoder_files) == is_named, active.warnings


def check_checkpoints_are_the_programs(host: Host, tools: Tools) -> None:
    checkpoints = host.checkpoints()
    assert all(path.exists() for path in checkpoints.values()), checkpoints
    if checkpoints:  # a model that was never a file has none
        assert any(tools.files()[0].samefile(path) for path in checkpoints.values())


def check_chooser_chooses_or_is_none(host: Host, tools: Tools) -> None:
    del tools
    if host.chooser is None:
        return
    chosen = host.chooser.chosen
    assert chosen is not None
    assert chosen in host.checkpoints()
    host.chooser.choose(chosen)
    assert host.chooser.chosen == chosen


def check_encoders_have_known_shapes(host: Host, tools: Tools) -> None:
    del tools
    for encoder in host.active().model.encoders:
        assert encoder.width == WIDTHS[encoder.key]
        assert encoder.vocabulary_size >= 49408
        assert encoder.padding_id == (49407 if encoder.key == "clip_l" else 0)


def check_tokenizer_is_the_programs(host: Host, tools: Tools) -> None:
    wrong = []
    for encoder in host.active().model.encoders:
        for text in TRICKY_TEXTS:
            own = tools.own_tokenize(encoder.key, text)
            if own is not None and own != encoder.tokenizer.encode(text):
                wrong.append((encoder.key, text, own, encoder.tokenizer.encode(text)))
    assert wrong == [], wrong


def check_tokenizer_differs_only_as_known(host: Host, tools: Tools) -> None:
    for encoder in host.active().model.encoders:
        for text in READ_IN_TWO_WAYS:
            own = tools.own_tokenize(encoder.key, text)
            ours = encoder.tokenizer.encode(text)
            allowed = [ours] if encoder.key == "clip_l" else [ours, *_other_readings(encoder.tokenizer, text)]
            assert own is None or own in allowed, (encoder.key, text, own, allowed)


def check_vectors_are_rows_of_the_programs_table(host: Host, tools: Tools) -> None:
    for encoder in host.active().model.encoders:
        vectors = as_tensor(encoder.vectors(_IDS))
        assert vectors.dtype == torch.float32
        assert vectors.shape == (len(_IDS), encoder.width)
        assert equal(vectors[0], vectors[2])
        assert encoder.vectors(()).shape == (0, encoder.width)
        own = tools.own_rows(encoder.key, _IDS)
        assert own is None or equal(vectors.cpu(), own.float().cpu())


def check_vectors_belong_to_nobody_else(host: Host, tools: Tools) -> None:
    for encoder in host.active().model.encoders:
        vectors = as_tensor(encoder.vectors(_IDS))
        assert not vectors.requires_grad
        assert not vectors.is_inference()
        before = vectors.clone()
        vectors.zero_()
        assert equal(encoder.vectors(_IDS), before)
        own = tools.own_rows(encoder.key, _IDS)
        assert own is None or bool(own.any())


def check_vectors_are_plain_in_any_thread_and_after_inference_mode(host: Host, tools: Tools) -> None:
    """Web UIs answer in worker threads, and generate in inference mode: nothing made there may show up elsewhere."""
    del tools
    with torch.inference_mode():
        encoder = host.active().model.encoders[0]
        first = as_tensor(encoder.vectors([CAT, DOG]))
        band = encoder.length_band()
    found: list[torch.Tensor] = []
    thread = threading.Thread(
        target=lambda: found.append(as_tensor(host.active().model.encoders[0].vectors([CAT, DOG])))
    )
    thread.start()
    thread.join(60)
    found.append(as_tensor(encoder.vectors([CAT, DOG])))
    assert all(equal(vectors, first) for vectors in found)
    assert not any(vectors.is_inference() or vectors.requires_grad for vectors in found)
    assert encoder.length_band() == band
    assert encoder.nearest(found[0].requires_grad_())[0][0].id == CAT


def check_nearest_of_a_row_is_its_token(host: Host, tools: Tools) -> None:
    del tools
    for encoder in host.active().model.encoders:
        rows = as_tensor(encoder.vectors([CAT, DOG]))
        best = encoder.nearest(torch.cat([rows * 3, torch.zeros_like(rows[:1])]), 3)
        assert [len(found) for found in best] == [3, 3, 0]
        assert [found[0].id for found in best[:2]] == [CAT, DOG]
        assert best[0][0].token == "cat</w>"
        assert best[0][0].cosine > 0.9999
        cosines = [token.cosine for token in best[1]]
        assert cosines == sorted(cosines, reverse=True)


def check_rows_are_recognised(host: Host, tools: Tools) -> None:
    del tools
    for encoder in host.active().model.encoders:
        rows = encoder.vectors([CAT, DOG, PHOTO])
        as_tensor(rows)[1] *= 1.5  # in place
        assert encoder.find_equal_rows(rows) == [CAT, None, PHOTO]


def check_lengths_are_those_of_the_file(host: Host, tools: Tools) -> None:
    file = _file_encoders(tools)
    for encoder in host.active().model.encoders:
        band = encoder.length_band()
        assert 0 < band.low < band.mean < band.high
        assert band.mean == encoder.mean_length()
        assert encoder.mean_length() == file[encoder.key].mean_length()
        assert band == file[encoder.key].length_band()


def check_fingerprints_are_those_of_the_file(host: Host, tools: Tools) -> None:
    path, encoders = tools.files()
    expected = dict(open_checkpoint(path, text_encoders=encoders).fingerprints())
    active = host.active()
    if active.vectors_from == "memory":  # tables alone, so nothing is known of the layers above them
        expected = {key: replace(one, text_encoder=None) for key, one in expected.items()}
    assert dict(active.model.fingerprints()) == expected
    assert dict(host.active().model.fingerprints(lambda done, total: None)) == expected


def check_a_formula_is_its_arithmetic(host: Host, tools: Tools) -> None:
    model = host.active().model
    vectors = evaluate(parse("'cat'+'dog'*0.5"), model)
    for encoder in model.encoders:
        cat, dog = encoder.vectors([CAT]), encoder.vectors([DOG])
        assert equal(vectors[encoder.key], cat + dog * 0.5)
        own = tools.own_rows(encoder.key, [CAT, DOG])
        if own is not None:
            own = own.float().cpu()
            assert equal(as_tensor(vectors[encoder.key]).cpu(), own[:1] + own[1:] * 0.5)


def check_75_tokens_are_the_most(host: Host, tools: Tools) -> None:
    model = host.active().model
    prompt = " ".join(["cat", "dog", "photo"] * 25)
    vectors = evaluate(parse(prompt), model)
    for encoder in model.encoders:
        assert vectors[encoder.key].shape == (75, encoder.width)
        own = tools.own_rows(encoder.key, [CAT, DOG, PHOTO] * 25)
        assert own is None or equal(as_tensor(vectors[encoder.key]).cpu(), own.float().cpu())
    error = _error_of(prompt + " cat", model)
    assert isinstance(error, EvaluationError)
    assert "76" in error.message


def check_broken_sources_are_refused_with_a_place(host: Host, tools: Tools) -> None:
    del tools
    model = host.active().model
    for source in BROKEN_SOURCES:
        error = _error_of(source, model)
        assert isinstance(error, ExpressionError), (source, error)
        assert error.start is not None, source
        assert error.end is not None, source
        assert 0 <= error.start <= error.end <= len(source), (source, error.start, error.end)


def check_a_saved_embedding_is_listed_and_named(host: Host, tools: Tools) -> None:
    with _saved(host, tools, "'cat'+'dog'*0.5") as (embedding, path):
        library = host.library()
        assert _NAME in library.names()
        assert library.path(_NAME) == path
        model = host.active().model
        read = evaluate(parse(f"'{_NAME}'*1"), model)
        for key, vectors in embedding.vectors.items():
            assert equal(as_tensor(read[key]).cpu(), vectors)
    assert _NAME not in host.library().names()


def check_a_saved_embedding_is_in_the_next_prompt(host: Host, tools: Tools) -> None:
    with _saved(host, tools, "'cat'*2,'dog'-'photo'"):
        _assert_spliced(tools, load_embedding(host.library().path(_NAME)))


def check_a_float16_embedding_is_in_the_next_prompt(host: Host, tools: Tools) -> None:
    with _saved(host, tools, "'cat'*1.1", dtype="float16") as (_, path):
        _assert_spliced(tools, load_embedding(path))


def check_an_embedding_in_a_subfolder_is_in_the_next_prompt(host: Host, tools: Tools) -> None:
    with _saved(host, tools, "'cat'*1.1", folder="emcontract folder") as (embedding, _):
        _assert_spliced(tools, embedding)


def check_an_overwritten_embedding_is_the_new_one(host: Host, tools: Tools) -> None:
    with _saved(host, tools, "'cat'") as (first, _):
        _assert_spliced(tools, first)
        with _saved(host, tools, "'dog'*2,'photo'") as (second, _):
            assert second.count == 2
            _assert_spliced(tools, second)
            read = evaluate(parse(f"'{_NAME}'"), host.active().model)
            assert all(equal(as_tensor(read[key]).cpu(), rows) for key, rows in second.vectors.items())


def check_no_old_conditioning_is_used(host: Host, tools: Tools) -> None:
    if not tools.remember_conditionings():
        return
    assert tools.remembers_conditionings()
    with _saved(host, tools, "'cat'"):
        assert not tools.remembers_conditionings()


def check_active_twice_is_the_same(host: Host, tools: Tools) -> None:
    del tools
    first, second = host.active(), host.active()
    assert [id(one) for one in first.model.encoders] == [id(one) for one in second.model.encoders]
    assert first.model.facts == second.model.facts
    assert (first.vectors_from, first.warnings) == (second.vectors_from, second.warnings)


def check_after_a_switch_it_is_the_other_model(host: Host, tools: Tools) -> None:
    before = _state(host)
    if not tools.switch_model():
        return
    try:
        check_active_tells_the_model(host, tools)
        check_vectors_are_rows_of_the_programs_table(host, tools)
        check_fingerprints_are_those_of_the_file(host, tools)
        check_rows_are_recognised(host, tools)
        after = _state(host)
    finally:
        tools.switch_model()
    assert after[0] != before[0]
    for key, vectors in before[1].items():
        assert not equal(vectors, after[1][key]), key
        assert before[2][key].token_table != after[2][key].token_table
    again = _state(host)
    assert again[0] == before[0]
    assert again[2] == before[2]
    assert all(equal(vectors, again[1][key]) for key, vectors in before[1].items())


def check_another_model_in_memory_is_not_the_active_one(host: Host, tools: Tools) -> None:
    """Hires fix and the refiner leave theirs in memory; what is made is made for the model that is selected."""
    before = _state(host)
    for file_name in tools.load_another():
        assert _state(host)[0] == before[0], file_name
        check_active_tells_the_model(host, tools)
        (note,) = (note for note in host.active().warnings if " is still loaded." in note)
        assert Path(file_name).stem in note.partition(" is selected, but ")[2], note
        assert "another model is loaded" in host.active().vectors_from
        check_active_twice_is_the_same(host, tools)
        check_fingerprints_are_those_of_the_file(host, tools)
        check_rows_are_recognised(host, tools)
        for key, vectors in before[1].items():
            assert equal(as_tensor(_state(host)[1][key]).cpu(), as_tensor(vectors).cpu()), (file_name, key)
        with _saved(host, tools, "'cat'+'dog'*0.5") as (embedding, _):
            assert measure_fit(embedding, host.active().model).status == FitStatus.MADE_FOR_THIS_MODEL
            assert set(embedding.vectors) == set(before[1])
    after = _state(host)
    assert not any(" is still loaded." in note for note in host.active().warnings)
    assert after[0] == before[0]
    assert after[2] == before[2]


def check_what_is_saved_beside_another_model_is_in_the_next_prompt(host: Host, tools: Tools) -> None:
    others = tools.load_another()
    if next(others, None) is None:
        return
    with _saved(host, tools, "'cat'*3,'dog'") as (embedding, _):
        for _ in others:  # until the selected one is in memory again, as the next generation has it
            pass
        _assert_spliced(tools, embedding)


def check_a_switched_model_is_not_kept(host: Host, tools: Tools) -> None:
    active = host.active()
    active.model.fingerprints()
    active.model.encoders[0].nearest(active.model.encoders[0].vectors([CAT]))
    old = tools.loaded()
    if not old or not tools.switch_model():
        return
    try:
        reused = {id(one()) for one in tools.loaded()} & {id(one()) for one in old if one() is not None}
        if reused:  # the same layers with other values: there is nothing to let go
            return
        # `active` is still held here, as a page holds it whose build runs: not even that keeps the tables.
        gc.collect()
        assert [one() for one in old] == [None] * len(old)
        for encoder in active.model.encoders:
            assert isinstance(_rows_error(encoder), EmbedMergeError)
        host.active()
    finally:
        tools.switch_model()


def check_a_removed_embedding_is_found_no_more(host: Host, tools: Tools) -> None:
    with _saved(host, tools, "'cat'*1.75") as (_, path):
        host.library().refresh()
        assert tools.finds(_NAME) is not False
        host.before_replacing(path)
        path.unlink()
        host.embedding_removed(path)
        host.library().refresh()
        assert _NAME not in host.library().names()
        assert not tools.finds(_NAME)


CHECKS: dict[str, Callable[[Host, Tools], None]] = {
    name.removeprefix("check_"): value for name, value in list(globals().items()) if name.startswith("check_")
}


@contextmanager
def _saved(
    host: Host, tools: Tools, source: str, *, dtype: str = "float32", folder: str = ""
) -> Iterator[tuple[Embedding, Path]]:
    """An embedding saved as the faces save one, then removed."""
    embedding = build_embedding(host.active().model, source, _NAME)
    path = embedding.save(host.embeddings_folder / folder, dtype=dtype, overwrite=True)
    try:
        host.embedding_saved(path)
        yield embedding, path
    finally:
        tools.forget(path)
        if folder:
            path.parent.rmdir()


def _assert_spliced(tools: Tools, embedding: Embedding) -> None:
    spliced = tools.spliced_vectors(_NAME)
    if spliced is None:
        return
    assert set(spliced) == set(embedding.vectors)
    for key, vectors in embedding.vectors.items():
        found = spliced[key].cpu()
        assert equal(found, as_tensor(vectors).to(found.dtype)), key


def _state(host: Host) -> tuple[str, Vectors, dict[str, Fingerprint]]:
    model = host.active().model
    vectors = {encoder.key: encoder.vectors([CAT]) for encoder in model.encoders}
    return model.facts.file_name, vectors, dict(model.fingerprints())


def _file_encoders(tools: Tools) -> dict[str, TextEncoder]:
    path, encoders = tools.files()
    return {encoder.key: encoder for encoder in open_checkpoint(path, text_encoders=encoders).encoders}


def _error_of(source: str, model: Model) -> EmbedMergeError | None:
    try:
        evaluate(parse(source), model)
    except EmbedMergeError as error:
        return error
    return None


def _other_readings(tokenizer: Tokenizer, text: str) -> Iterator[list[int]]:
    """As open_clip reads it, and as a tokenizer that pads with `!` does."""
    yield tokenizer.encode(html.unescape(html.unescape(text)))
    between = [tokenizer.encode(part) for part in text.split("!")]
    yield [token for ids in between for token in (0, *ids)][1:]


def _rows_error(encoder: TextEncoder) -> EmbedMergeError | None:
    try:
        encoder.vectors([CAT])
    except EmbedMergeError as error:
        return error
    return None
