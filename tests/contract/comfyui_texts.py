"""Texts for ComfyUI, each with its expressions: what a text means is what the same text means with embeddings of files.

`{0}` is the first expression of a row, written as an expression or as `embedding:NAME` of a file with its vectors.
"""

from __future__ import annotations

LONG = "a very long prompt about a red fox that runs through the snow, "

TEXTS: tuple[tuple[str, ...], ...] = (
    ("a photo of a {0} in the garden", "'cat'+'dog'*0.5"),
    ("{0}", "'cat'"),
    ("{0}, best quality", "'a red car'*0.7"),
    ("best quality, {0}", "'a red car'*0.7"),
    ("a photo, ({0}:1.2), b", "'cat'+'dog'*0.5"),
    ("a photo, ({0}), b", "'cat'+'dog'*0.5"),
    ("a photo, (({0})), b", "'cat'+'dog'*0.5"),
    ("x (masterpiece, {0}, y:0.8)", "'a red car'*0.7"),
    ("x (masterpiece, ({0}:1.3), y:0.8) z", "'a red car'*0.7"),
    ("({0} and {1}:1.1)", "'cat'", "'dog'"),
    ("{0} {1}", "'cat'", "'dog'"),
    ("{0} {0}", "'cat'*2"),
    ("{0},{1}", "'cat'", "'dog'"),
    ("{0}\n{1}", "'cat'", "'dog'"),
    ("line\n{0}\nline", "'cat'"),
    ("a {0}.", "'cat'"),
    ("a {0}!", "'cat'"),
    ("{0}'s hat", "'cat'"),
    ("red {0} blue {1} green {2}", "'cat'", "'dog'", "'fox'"),
    ("a \\({0}\\) b", "'cat'"),
    ("a \\(b\\) {0}", "'cat'"),
    ("(a:1.5) {0} (b:0.5)", "'cat'"),
    ("(a {0}:-1)", "'cat'"),
    ("a BREAK {0} BREAK b", "'cat'"),
    ("a AND {0}", "'cat'"),
    ("[a|{0}]", "'cat'"),
    ("[a:{0}:0.5]", "'cat'"),
    ("{0}", "'one two three four five six seven eight nine ten'"),
    (LONG + "{0}", "'cat'+'dog'"),
    (LONG * 4 + "{0}", "'cat'+'dog'"),
    (LONG * 5 + "{0} " + LONG, "'a red car'*0.7"),
    (LONG * 10 + "{0}, (" + LONG + "{1}:1.2)", "'cat'", "'a red car'"),
    ("{0} " * 30, "'a red car'*0.5"),
    ("x {0} y", "'one two three four five six seven eight nine ten' * 0.9"),
    (LONG * 4 + "{0}", "'one two three four five six seven eight nine ten'"),
    ("a {0} b", "slerp('cat','dog',0.3)"),
    ("a {0} b", "orth('king','man')"),
    ("a {0} b", "('cat'+'dog')*-0.5"),
    ("a {0} b", "L('cat')+G('dog')"),
    ("a {0} b", "'cat':3"),
    ("a {0} b", "cat('red','blue green')"),
    ("{0}, {1}, ({2}:1.4), {3}", "'cat'", "'dog'*2", "'fox'-'cat'", "'a'"),
    ("a < b, {0} > c", "'cat'"),
    ("<lora:x:1> {0}", "'cat'"),
)

NAMED: tuple[tuple[str, str], ...] = (
    # typed -> the same for ComfyUI itself; the embeddings are emsmall and `em my cat`, with two and one vectors
    ("a emsmall, b", "a embedding:emsmall , b"),
    ("a EMSMALL, b", "a embedding:emsmall , b"),
    ("(emsmall:1.3)", "(embedding:emsmall :1.3)"),
    ("x,emsmall.", "x, embedding:emsmall ."),
    ("embedding:emsmall", "embedding:emsmall"),
    ("embedding:emsmall, b", "embedding:emsmall, b"),
    ("embedding:emsmall,best quality", "embedding:emsmall ,best quality"),
    ("a cat,embedding:emsmall", "a cat, embedding:emsmall"),
    ("embedding:emsmall.", "embedding:emsmall ."),
    ("embedding:EmSmall x", "embedding:emsmall x"),
    ("embedding:emsmall.safetensors x", "embedding:emsmall.safetensors x"),
    ("embedding:emsmall embedding:emsmall", "embedding:emsmall embedding:emsmall"),
    ("embedding:em\\(x\\)", "embedding:em\\(x\\)"),
    ("a em\\(x\\) b", "a embedding:em\\(x\\) b"),
    ("nothing here", "nothing here"),
)
