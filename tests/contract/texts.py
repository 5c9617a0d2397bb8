"""Texts for the contract: tricky ones to tokenize, and sources that must be refused."""

from __future__ import annotations

TRICKY_TEXTS = (
    "cat",
    "a photo of a cat",
    "CAT Dog wOLF",
    "masterpiece, best quality, 1girl",
    "it's a dog's life, we'll see, they've, I'd",
    "3.14 + 2024 = 007",
    "naïve café Ångström",
    "e\u0301 combining",
    "日本語のテキスト",
    "Привет, мир",
    "🙂👍🏽 emoji 👨\u200d👩\u200d👧",
    "full ｗｉｄｔｈ １２３",
    "a\u00a0nbsp\u200bzwsp",
    "tab\tnewline\ncr\rend",
    "   leading and   inner   ",
    "“smart quotes” ‘single’ – dash — em…",
    "under_score __x__ a_b",
    "x&amp;y &copy; z",
    "&lt;b&gt; &quot;hi&quot; &amp;amp;",
    "(weights:1.2) [less] \\(esc\\)",
    "<lora:x:1> <'EM_1'>",
    "antidisestablishmentarianism floccinaucinihilipilification",
    "??? ... ,,, ;;;",
    "a" * 80,
    "ﬁ ligature ß ſ İ ı",
    "مرحبا بالعالم",
    "ไทย हिन्दी 한국어",
    "catdog-demo xl1-f32 NegXL my_style-v1.2",
    "ï»¿mojibake â€œquotedâ€\u009d schÃ¶n",
    "",
    " ",
    "♥\ufe0f™ ½ ² №",
    "x,cat,y.dog;wolf",
    "cat's 'quoted' \"double\"",
    "l'été d'un côté",
    "10,000.50 $5 50% #1 @home",
    "http://example.com/a?b=c&d=e",
    "\u0000control\u0007s",
    "ｶﾀｶﾅ half-width",
    "ZWJ\u200dx soft\u00adhyphen",
    "embmerge0001 em_a1b2c3",
)

READ_IN_TWO_WAYS = ("x&amp;copy y", "cats&notes", "a &lt b", "!!! ???", "wow!", "hi! there !!")
"""Texts that some web UIs read in another way for CLIP-G than for CLIP-L.

Entities without a semicolon: open_clip's tokenizer, which A1111 has for CLIP-G, takes `&copy` for a character.
Exclamation marks: where the tokenizer's padding token is `!`, as Forge's is for CLIP-G, each `!` is that token, 0.
EmbedMerge reads them for both as all web UIs do for CLIP-L, so that a source has one meaning everywhere.
"""

BROKEN_SOURCES = (
    "'cat",
    "'cat'+",
    "'cat'*",
    "'cat'*x",
    "'cat'/0",
    "'cat'++'dog'",
    "('cat'",
    "'cat')",
    "'cat' 'dog'",
    "'cat':",
    "'cat':1e3",
    "'cat':-",
    "'cat'*1e400",
    "'cat'*nan",
    "unknown('cat')",
    "'cat','",
    "'cat'-",
    "'cat'*2*",
    "'cat':76",
    "'cat'+#99999",
    "<'cat'",
)
