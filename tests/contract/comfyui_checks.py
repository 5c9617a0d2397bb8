"""What holds for EmbedMerge in ComfyUI, as plain functions over its CLIP and folders.

Nothing of pytest, so that the same checks run over the double and in ComfyUI's own environment. CHECKS has them by
name.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from contract.comfyui_texts import NAMED, TEXTS
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.errors import HostError, StorageError
from lib_embedmerge.hosts.comfyui.clip_tables import to_tensors
from lib_embedmerge.hosts.comfyui.comfy_host import ComfyHost, make_surroundings
from lib_embedmerge.hosts.comfyui.name_calls import Names
from lib_embedmerge.hosts.comfyui.prompt_reading import EmbedMergeStop
from lib_embedmerge.hosts.comfyui.text_counting import count_by_encoder, read_text
from lib_embedmerge.hosts.comfyui.text_uses import ReadingChoices
from lib_embedmerge.hosts.comfyui.wrapped_clip import find_clip_reader, wrap_clip
from lib_embedmerge.lang.nodes import Inline
from lib_embedmerge.lang.source import parse, read_prompt
from lib_embedmerge.node_pack.inspecting_nodes import CompareNode, InspectEmbedding
from lib_embedmerge.node_pack.making_nodes import BuildEmbedding, EmbeddingPicker
from lib_embedmerge.node_pack.queued_texts import keep_workflow
from lib_embedmerge.node_pack.reading_route import answer
from lib_embedmerge.node_pack.text_nodes import EmbedMergeClip, EmbedMergeTextEncode
from lib_embedmerge.recipes.build import build_embedding

KINDS = ("sdxl", "sdxl-refiner", "sd1", "sd2", "sd3", "flux", "hidream")
CATDOG = "'cat'+'dog'*0.5"
LONGER = {205}
"""Ids of golden expressions with more vectors than one embedding may have."""


@dataclass
class ComfyTools:
    """ComfyUI, the real one or the double.

    embeddings: its first embeddings folder.  golden: the folder with the golden results.
    make_clip: returns a CLIP of a kind of model and a dtype; the same one each time.
    """

    embeddings: Path
    golden: Path
    make_clip: Callable[[str, torch.dtype], Any]

    def sdxl(self) -> Any:
        """A CLIP of SDXL in float32."""
        return self.make_clip("sdxl", torch.float32)

    def save(self, clip: Any, source: str, name: str) -> str:
        """Save an embedding of a source, as the command line does. Returns its name."""
        host = ComfyHost(clip)
        build_embedding(host.active().model, source, name).save(self.embeddings, overwrite=True)
        return name

    @contextlib.contextmanager
    def saved(self, clip: Any, source: str, name: str) -> Iterator[str]:
        """In this block, an embedding of that source and name is in the folder."""
        try:
            yield self.save(clip, source, name)
        finally:
            (self.embeddings / f"{name}.safetensors").unlink()


def wrap(clip: Any, **choices: Any) -> Any:
    """A clone of a CLIP that reads expressions."""
    return wrap_clip(clip, ReadingChoices(**choices), make_surroundings())


def assert_equal_tokens(ours: Any, theirs: Any) -> None:
    """The same tokens, weights and word numbers; vectors to the last bit."""
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert len(ours[key]) == len(theirs[key]), (key, len(ours[key]), len(theirs[key]))
        for our_chunk, their_chunk in zip(ours[key], theirs[key], strict=True):
            assert len(our_chunk) == len(their_chunk)
            for (our, *our_rest), (their, *their_rest) in zip(our_chunk, their_chunk, strict=True):
                assert our_rest == their_rest
                if torch.is_tensor(our) or torch.is_tensor(their):
                    assert torch.equal(our.float(), their.float())
                else:
                    assert our == their


def find_inputs(clip: Any, tokens: Any) -> dict[str, torch.Tensor]:
    """Encoder key -> what the text encoder gets: float32 [chunks, 77, width]."""
    clip.load_model()
    inputs = {}
    for key in ("clip_l", "clip_g", "clip_h"):
        encoder = getattr(clip.cond_stage_model, key, None)
        if encoder is not None:
            chunks = [[entry[0] for entry in chunk] for chunk in tokens[key.removeprefix("clip_")]]
            inputs[key] = encoder.process_tokens(chunks, "cpu")[0].detach()
    return inputs


def assert_equal_inputs(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert ours
    for key, rows in ours.items():
        assert torch.equal(rows, theirs[key]), key


def list_vectors(tokens: Any, key: str) -> list[torch.Tensor]:
    """The vectors among the tokens of one text encoder."""
    return [entry[0].float() for chunk in tokens[key] for entry in chunk if torch.is_tensor(entry[0])]


def is_expression(text: str) -> bool:
    """Whether a text is an expression, so that it can be written into a prompt."""
    parts = read_prompt(f"<{text}>")
    return len(parts) == 1 and isinstance(parts[0], Inline)


def _compare_with_files(tools: ComfyTools, texts: Iterable[tuple[str, ...]], dtype: torch.dtype) -> None:
    """Texts with expressions give what they give with embeddings of files. texts: rows as in comfyui_texts.TEXTS."""
    clip = tools.make_clip("sdxl", dtype)
    reading = wrap(clip)
    names: dict[str, str] = {}
    try:
        for pattern, *expressions in texts:
            for expression in expressions:
                if expression not in names:
                    names[expression] = tools.save(clip, expression, f"emroute{len(names)}q")
            typed = pattern.format(*(f"<{expression}>" for expression in expressions))
            with_files = pattern.format(*(f" embedding:{names[expression]} " for expression in expressions))
            _compare_texts(reading, typed, clip, _squeeze(with_files))
    finally:
        for name in names.values():
            (tools.embeddings / f"{name}.safetensors").unlink()


def _compare_texts(reading: Any, typed: str, clip: Any, wanted: str) -> None:
    """A text for one CLIP gives the tokens and encoder inputs of another text for another."""
    try:
        assert_equal_tokens(reading.tokenize(typed, return_word_ids=True), clip.tokenize(wanted, return_word_ids=True))
    except AssertionError as error:
        raise AssertionError(f"{typed!r}: {error}") from error
    inputs = find_inputs(reading, reading.tokenize(typed)), find_inputs(clip, clip.tokenize(wanted))
    assert_equal_inputs(*inputs)


def _squeeze(text: str) -> str:
    """A text without several spaces before a call, which ComfyUI counts as a group of no tokens."""
    while "  embedding:" in text:
        text = text.replace("  embedding:", " embedding:")
    return text


def check_texts_are_equal_to_files_in_float32(tools: ComfyTools) -> None:
    assert len(TEXTS) >= 40
    _compare_with_files(tools, TEXTS, torch.float32)


def check_texts_are_equal_to_files_in_float16(tools: ComfyTools) -> None:
    _compare_with_files(tools, TEXTS, torch.float16)


def check_vectors_are_those_of_the_evaluator(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    reading = wrap(clip)
    model = ComfyHost(clip).active().model
    for pattern, *expressions in TEXTS:
        tokens = reading.tokenize(pattern.format(*(f"<{expression}>" for expression in expressions)))
        order = sorted(range(len(expressions)), key=lambda index: pattern.index(f"{{{index}}}"))
        repeated = len(expressions) == 1
        for key in ("l", "g"):
            found = list_vectors(tokens, key)
            vectors = [to_tensors(evaluate(parse(expressions[i]), model))[f"clip_{key}"] for i in order]
            wanted = torch.cat(vectors * (pattern.count("{0}") if repeated else 1))
            assert torch.equal(torch.stack(found), wanted), pattern


def check_golden_expressions(tools: ComfyTools) -> None:
    """Expressions whose results were measured in the real AUTOMATIC1111, on the token rows of that measurement."""
    golden = json.loads((tools.golden / "em_golden.json").read_text(encoding="utf-8"))
    with numpy.load(tools.golden / "em_golden.npz") as loaded:
        arrays = {name: torch.from_numpy(loaded[name].copy()) for name in loaded.files}
    ids = torch.tensor([int(token) for token in arrays["token_ids"]])
    clip = tools.sdxl().clone()
    layers = {x: getattr(clip.cond_stage_model, f"clip_{x}").transformer.get_input_embeddings() for x in "lg"}
    clip.load_model()
    before = {x: layer.weight.detach()[ids].clone() for x, layer in layers.items()}
    count = equal = 0
    saved: list[Path] = []
    try:
        with torch.no_grad():
            for x, layer in layers.items():
                layer.weight[ids] = arrays[f"rows_{x}"].float()
        for name in golden["meta"]["embeddings"]:
            vectors = {f"clip_{x}": arrays[f"emb_{name}_{x}"].float().numpy() for x in "lg"}
            saved.append(Embedding(name, vectors).save(tools.embeddings))
        reading = wrap(clip)
        model = ComfyHost(clip).active().model
        for case in golden["expressions"]:
            expression = case["expression"]
            if f"e{case['id']}_l" not in arrays or case["id"] in LONGER or not is_expression(expression):
                continue
            try:
                wanted = to_tensors(evaluate(parse(expression), model))
            except StorageError as error:
                assert "ftfy" in error.message, error  # which ComfyUI does not have
                continue
            if not len(wanted["clip_l"]):
                continue
            tokens = reading.tokenize(f"a <{expression}> b")
            for x in "lg":
                found = torch.stack(list_vectors(tokens, x))
                assert torch.equal(found, wanted[f"clip_{x}"]), expression
                measured = arrays[f"e{case['id']}_{x}"]
                torch.testing.assert_close(found, measured, rtol=1e-6, atol=1e-7)
                equal += bool(torch.equal(found, measured))
                count += 1
    finally:
        for path in saved:
            path.unlink()
        with torch.no_grad():
            for x, layer in layers.items():
                layer.weight[ids] = before[x]
    assert count > 250, count
    assert equal > count // 2, (equal, count)


def check_golden_prompts(tools: ComfyTools) -> None:
    """The prompts of that measurement, with files in place of expressions."""
    golden = json.loads((tools.golden / "em_golden.json").read_text(encoding="utf-8"))
    rows = []
    for case in golden["prompts"]:
        prompt = case["prompt"]
        if case["error"]:
            continue
        parts = [part for part in read_prompt(prompt) if isinstance(part, Inline)]
        pattern, position = "", 0
        for number, part in enumerate(parts):
            pattern += _escape(prompt[position : part.start]) + f"{{{number}}}"
            position = part.end
        rows.append((pattern + _escape(prompt[position:]), *(prompt[p.start + 1 : p.end - 1].strip() for p in parts)))
    assert len(rows) == 19, len(rows)
    _compare_with_files(tools, rows, torch.float32)


def _escape(text: str) -> str:
    """A text for str.format."""
    return text.replace("{", "{{").replace("}", "}}")


def check_every_kind_of_model(tools: ComfyTools) -> None:
    for kind in KINDS:
        clip = tools.make_clip(kind, torch.float32)
        reading = wrap(clip)
        tokens = reading.tokenize("a <'cat'+'dog'*0.5> b")
        plain = clip.tokenize("a cat dog b")
        assert tokens.keys() == plain.keys(), kind
        for encoder in find_clip_reader(reading)._encoders:  # type: ignore[union-attr]
            (found,) = list_vectors(tokens, encoder.key.removeprefix("clip_"))
            cat, dog = to_numpy(encoder.vectors([2368, 1929]))
            assert torch.equal(found, torch.from_numpy(cat + dog * numpy.float32(0.5))), kind
        for key in set(tokens) - {"l", "g", "h"}:
            assert tokens[key] == plain[key], kind  # T5 and Llama read the words


def check_two_encoders_get_texts_of_their_own(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    reading = wrap(clip)
    tokens = reading.tokenize("a <'cat'> b")
    tokens["l"] = reading.tokenize("<'dog'*2> and nothing")["l"]
    with tools.saved(clip, "'cat'", "emcat1q") as cat, tools.saved(clip, "'dog'*2", "emdog1q") as dog:
        wanted = clip.tokenize(f"a embedding:{cat} b")
        wanted["l"] = clip.tokenize(f"embedding:{dog} and nothing")["l"]
    assert_equal_tokens(tokens, wanted)


def check_encoded_texts_are_equal(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    reading = wrap(clip)
    with tools.saved(clip, CATDOG, "emcatdog1q") as name, torch.inference_mode():
        for skip in (None, -2):
            ours, theirs = reading.clone(), clip.clone()
            if skip:
                ours.clip_layer(skip)
                theirs.clip_layer(skip)
            ours = ours.encode_from_tokens(ours.tokenize(f"(a <{CATDOG}>:1.2) b"), return_pooled=True)
            theirs = theirs.encode_from_tokens(theirs.tokenize(f"(a embedding:{name} :1.2) b"), return_pooled=True)
            for our, their in zip(ours, theirs, strict=True):
                assert torch.equal(our, their)


def check_rows_are_those_of_the_clip_that_encodes(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    reading = wrap(clip)
    name = "clip_l.transformer.text_model.embeddings.token_embedding.weight"
    weight = clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    patched = reading.clone()
    patched.add_patches({name: _make_patch(torch.full_like(weight, 0.25))})

    def find_cat(of: Any) -> torch.Tensor:
        return list_vectors(of.tokenize("<'cat'>"), "l")[0]

    before = find_cat(reading)
    of_patched = find_cat(patched)
    assert torch.allclose(of_patched, before + 0.25, atol=1e-6)
    assert torch.equal(find_inputs(patched, patched.tokenize("cat"))["clip_l"][0, 1], of_patched)
    assert torch.equal(find_cat(reading), before)
    patched.add_patches({name: _make_patch(torch.full_like(weight, 0.5))})
    assert torch.allclose(find_cat(patched), before + (0.5 if _replaces(patched) else 0.75), atol=1e-6)
    assert torch.equal(find_cat(reading.clone()), before)
    host = ComfyHost(patched)
    active = host.active()
    assert "token tables patched in ComfyUI" in active.model.facts.title
    assert any("patched" in warning for warning in active.warnings)
    assert torch.equal(find_cat(reading), before)


def _make_patch(values: torch.Tensor) -> Any:
    """What add_patches takes: the real one takes tuples."""
    import comfy.model_management

    return (values,) if hasattr(comfy.model_management, "load_models_gpu") else values


def _replaces(clip: Any) -> bool:
    """Whether a second patch replaces the first, as in the double."""
    return isinstance(next(iter(clip.patcher.patches.values())), torch.Tensor)


def check_nothing_but_the_clone_is_changed(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    before = type(clip), clip.tokenizer, dict(vars(clip.tokenizer)), type(clip.tokenizer.clip_l)
    methods = dict(vars(type(clip))), dict(vars(type(clip.tokenizer.clip_l)))
    reading = wrap(clip)
    reading.tokenize("<'cat'>")
    reading.clone().tokenize("<'cat'>")
    assert before == (type(clip), clip.tokenizer, dict(vars(clip.tokenizer)), type(clip.tokenizer.clip_l))
    assert methods == (dict(vars(type(clip))), dict(vars(type(clip.tokenizer.clip_l))))
    assert isinstance(reading, type(clip))
    assert isinstance(reading.tokenizer, type(clip.tokenizer))
    assert not list_vectors(clip.tokenize("<'cat'>"), "l")
    again = wrap(reading, names=Names.COMFYUI)
    assert type(again) is type(reading)
    assert len(list_vectors(again.tokenize("<'cat'>"), "l")) == 1


def check_mistakes_stop_or_stay(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    text = "a photo of <'cat'+'dog'*>, b"
    try:
        wrap(clip).tokenize(text)
    except EmbedMergeStop as stop:
        sentence = str(stop)
    assert sentence == "No number follows *. (At character 24 of the text, in <'cat'+'dog'*>.)"
    assert_equal_tokens(wrap(clip, stops=False).tokenize(text), clip.tokenize(text))


def check_names_are_found(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    reading = wrap(clip)
    with tools.saved(clip, "'red fox'*0.5", "emsmall"), tools.saved(clip, "'blue'", "em(x)"):
        for typed, wanted in NAMED:
            _compare_texts(reading, typed, clip, wanted)
        marked, off = wrap(clip, names=Names.MARKED), wrap(clip, names=Names.COMFYUI)
        assert not list_vectors(marked.tokenize("a emsmall"), "l")
        assert len(list_vectors(marked.tokenize("a,embedding:emsmall,b"), "l")) == 2
        for typed in ("a emsmall", "a,embedding:emsmall,b", "embedding:emsmall,b", "embedding:emsmall b"):
            assert_equal_tokens(off.tokenize(typed), clip.tokenize(typed))
    with tools.saved(clip, "'red fox'", "em my cat"), tools.saved(clip, "'dog'", "em my"):
        assert len(list_vectors(reading.tokenize("a em my cat b"), "l")) == 2
        assert len(list_vectors(reading.tokenize("a em my dog b"), "l")) == 1
        assert len(list_vectors(reading.tokenize("(a,embedding:em my cat:1.2)"), "l")) == 2


def check_recipes_follow_the_model(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    key = "clip_l.transformer.text_model.embeddings.token_embedding.weight"
    weight = clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    other = clip.clone()
    other.add_patches({key: _make_patch(torch.full_like(weight, 0.25))})
    with tools.saved(other, CATDOG, "emfollow1q") as name:
        stored = load_embedding(tools.embeddings / f"{name}.safetensors")
        for typed in (f"a {name} b", f"a embedding:{name} b", f"a,embedding:{name},b"):
            (found,) = list_vectors(wrap(clip).tokenize(typed), "l")
            assert torch.equal(found, to_tensors(stored.vectors)["clip_l"][0]), typed
            (followed,) = list_vectors(wrap(clip, follow=True).tokenize(typed), "l")
            (fresh,) = list_vectors(wrap(clip).tokenize(f"<{CATDOG}>"), "l")
            assert torch.equal(followed, fresh), typed


def check_counts_are_those_of_the_tokens(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    reading = wrap(clip)
    with tools.saved(clip, "'red fox'*0.5", "emsmall"):
        for pattern, *expressions in TEXTS:
            text = pattern.format(*(f"<{expression}>" for expression in expressions)) + ", emsmall"
            counts = count_by_encoder(reading.tokenize(text, return_word_ids=True))
            assert list(counts) == ["CLIP-L", "CLIP-G"]
            read = read_text(text, ReadingChoices(), make_surroundings())
            assert read.counted == counts["CLIP-L"] == counts["CLIP-G"], text
            assert read.embeddings == ("emsmall",)
            assert not read.mistakes
        read = read_text("a <'x'*> embedding:nothing, <'emsmall'>", ReadingChoices(), make_surroundings())
    assert [error.message for error in read.mistakes] == ["No number follows *."]
    assert (read.embeddings, read.lost) == (("emsmall",), ("nothing",))


def check_changed_files_are_noticed(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    node = "changed"
    with tools.saved(clip, "'red'", "emchange1q"), tools.saved(clip, "'red'", "emother1q"):
        (reading,) = EmbedMergeClip().wrap(clip, node=node)
        first = EmbedMergeClip.IS_CHANGED(node=node)
        (before,) = list_vectors(reading.tokenize("a emchange1q"), "l")
        list_vectors(reading.tokenize("b <'emchange1q'*2>"), "l")
        assert EmbedMergeClip.IS_CHANGED(node=node) == first
        tools.save(clip, "'blue'", "emother1q")
        assert EmbedMergeClip.IS_CHANGED(node=node) == first
        tools.save(clip, "'blue'", "emchange1q")
        second = EmbedMergeClip.IS_CHANGED(node=node)
        assert second != first
        (after,) = list_vectors(reading.tokenize("a emchange1q"), "l")
        assert not torch.equal(before, after)
        assert EmbedMergeClip.IS_CHANGED(node=node) == second
    assert EmbedMergeClip.IS_CHANGED(node=node) != second  # the file is gone


def check_text_encode(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    result = EmbedMergeTextEncode().encode(clip, f"a {{{CATDOG}}} b", node="1")
    conditioning, report = result["result"]
    reading = wrap(clip)
    wanted = reading.encode_from_tokens(reading.tokenize(f"a <{CATDOG}> b"))
    assert torch.equal(conditioning[0][0], wanted)
    assert report == "CLIP-L and CLIP-G: 3 of 75 tokens, 1 of them vectors of embeddings"
    assert result["ui"] == {"embedmerge_report": [report]}
    assert EmbedMergeTextEncode.VALIDATE_INPUTS("a <'cat'*0.5>") is True
    assert EmbedMergeTextEncode.VALIDATE_INPUTS(None) is True
    assert "No number follows *." in EmbedMergeTextEncode.VALIDATE_INPUTS("a <'cat'*>")


def check_the_route_says_how_texts_are_read(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    with tools.saved(clip, "'red fox'*0.5", "emsmall"):
        read = answer({"text": "a <'cat'*>, (emsmall:1.2) embedding:<b>"})
        assert read["line"].splitlines()[1:] == ["Embeddings: 'emsmall'.", "No embedding has this name: '<b>'."]
        (mistake,) = read["mistakes"]
        assert (mistake["start"], mistake["end"]) == (8, 9)
        assert mistake["sentence"] == "No number follows *. (At character 9 of the text, in <'cat'*>.)"
        plain = answer({"text": "a emsmall", "embedding_names": "as ComfyUI does"})
        assert plain == {"line": "3 of 75 tokens", "mistakes": []}
        assert answer({"text": "a emsmall"})["line"].startswith("3 of 75 tokens, 2 of them vectors of embeddings")
    assert answer({"text": "", "kind": "source"}) == {"line": "", "mistakes": []}
    assert answer({"text": CATDOG, "kind": "source"})["line"] == "Read as expression: 1 vector of 75."
    assert "Did you mean 'cat'+'dog' ?" in answer({"text": "cat+dog", "kind": "source"})["line"]
    (mistake,) = answer({"text": "'cat'+", "kind": "source"})["mistakes"]
    assert "in 'cat'+." in mistake["sentence"]
    assert answer(None) == answer([1]) == answer({}) == answer({"text": ""})
    assert answer({"text": "x" * 1_000_000})["line"]


def check_build(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "folder/somemodel.safetensors"}},
        "2": {"class_type": "LoraLoader", "inputs": {"clip": ["1", 1], "model": ["1", 0], "lora_name": "x"}},
        "3": {"class_type": "EmbedMergeBuild", "inputs": {"clip": ["2", 1]}},
    }
    path = tools.embeddings / "embuilt1q.safetensors"

    def build(source: str, **options: Any) -> Any:
        return BuildEmbedding().build(clip, source, "embuilt1q", node="3", prompt=prompt, **options)["result"]

    try:
        first = BuildEmbedding.IS_CHANGED(node="3")
        name, call, report = build(CATDOG)
        assert (name, call) == ("embuilt1q", "embedding:embuilt1q")
        assert "is saved: 1 vector for each text encoder." in report
        saved = load_embedding(path)
        assert saved.tag is not None
        assert saved.recipe == CATDOG
        assert saved.tag.made_for == "somemodel"
        assert set(saved.tag.token_tables) == {"clip_l", "clip_g"}
        assert BuildEmbedding.IS_CHANGED(node="3") == first
        bytes_before = path.read_bytes()
        assert "Nothing was written." in build(CATDOG)[2]
        assert path.read_bytes() == bytes_before
        try:
            build("'cat'")
        except EmbedMergeStop as stop:
            assert str(stop).startswith("embuilt1q.safetensors already exists."), stop
        else:
            raise AssertionError("a file was replaced")
        assert "is saved" in build("'cat'", if_it_exists="replace it")[2]
        assert load_embedding(path).recipe == "'cat'"
        assert len(list_vectors(wrap(clip).tokenize("a embuilt1q"), "l")) == 1
        assert EmbeddingPicker().pick("embuilt1q", 1.25, "a red fox") == (
            "a red fox, (embedding:embuilt1q:1.25)",
            "embuilt1q",
        )
        assert "embuilt1q" in EmbeddingPicker.INPUT_TYPES()["required"]["embedding"][0]
    finally:
        path.unlink(missing_ok=True)
    assert BuildEmbedding.IS_CHANGED(node="3") != first
    for kind in ("flux", "sd3", "hidream"):
        assert "T5" in _find_refusal(tools.make_clip(kind, torch.float32))


def _find_refusal(clip: Any) -> str:
    """Why no embedding can be made for a CLIP; empty if one can."""
    try:
        ComfyHost(clip).active()
    except HostError as error:
        return error.message
    return ""


def check_mistakes_are_found_before_the_queue(tools: ComfyTools) -> None:
    del tools
    five: Any = {
        "class_type": "CLIPTextEncode",
        "inputs": {"clip": ["3", 1], "text": ["9", 0]},
        "_meta": {"title": "5th"},
    }
    prompt: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "'a'"}},
        "2": {"class_type": "EmbedMerge", "inputs": {"clip": ["1", 1], "on_mistake": "stop the queue"}},
        "3": {"class_type": "LoraLoader", "inputs": {"clip": ["2", 0], "model": ["1", 0], "lora_name": "x"}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["3", 1], "text": "a <'cat'*0.5>"}},
        "5": five,
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "not ours <'x'*>"}},
    }
    check = EmbedMergeClip.VALIDATE_INPUTS
    assert keep_workflow({"prompt": prompt}) == {"prompt": prompt}
    assert check("2") is True
    prompt["5"]["inputs"]["text"] = "b <'cat'*>"
    assert check("2") == "5th: No number follows *. (At character 9 of the text, in <'cat'*>.)"
    prompt["2"]["inputs"]["on_mistake"] = "use the text as it stands"
    assert check("2") is True
    requests: list[dict[str, Any]] = [{}, {"prompt": []}, {"prompt": {"2": None, "3": {"inputs": {"clip": ["2"]}}}}]
    for broken in requests:
        keep_workflow(broken)
        assert check("2") is True
    build = BuildEmbedding.VALIDATE_INPUTS
    assert build(CATDOG) is build(None) is build("'cat'+", "prompt") is build("cat+dog", "prompt") is True
    assert "in 'cat'+." in build("'cat'+")
    assert "set read_as to “prompt”" in build("cat+dog")


def check_inspect(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    with tools.saved(clip, CATDOG, "eminspect1q") as name:
        result = InspectEmbedding().inspect(clip, name, node="3", prompt={})
    report, image, fits = result["result"]
    assert report.startswith("Fit: made for this model.")
    assert "cat 0.8" in report or "cat 0.9" in report
    assert fits is True
    assert tuple(image.shape[::2]) == (1, 1024)
    assert image.shape[3] == 3
    assert image.dtype == torch.float32
    assert 0 <= float(image.min()) < float(image.max()) <= 1
    assert result["ui"]["images"]


def check_compare(tools: ComfyTools) -> None:
    clip = tools.sdxl()
    key = "clip_l.transformer.text_model.embeddings.token_embedding.weight"
    weight = clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    added = torch.zeros_like(weight)
    added[2368] = 0.5
    other = clip.clone()
    other.add_patches({key: _make_patch(added)})
    (report,) = CompareNode().compare(clip, other, "a <'cat'>", node="1", prompt={})["result"]
    assert "CLIP-L: 1 of 49,408 rows of the token tables differ. Furthest apart: cat" in report
    assert "CLIP-G: the token tables are equal" in report
    assert "Encoded text: cosine" in report
    (report,) = CompareNode().compare(clip, clip, "a <'cat'>", node="1", prompt={})["result"]
    assert "Encoded text: equal." in report


CHECKS: dict[str, Callable[[ComfyTools], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
"""Name -> check."""
