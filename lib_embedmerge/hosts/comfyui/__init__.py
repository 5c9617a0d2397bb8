"""The adapter for ComfyUI. Nothing of ComfyUI is patched: what changes are copies, of one CLIP and its tokenizer.

    wrapped_clip         a clone of a CLIP that reads expressions, as do its clones
    wrapped_tokenizer    a copy of a tokenizer that reads texts with a reader
    prompt_reading       the reader: a text with words in place of expressions and names, and their vectors
    text_marking         writes these words so that ComfyUI's tokenizer looks them up
    name_calls           the places in a text where an embedding is called
    clip_tables          the token tables of a CLIP, and text encoders with them
    text_uses            the user's choices, and what a text names
    texts_in_use         whether what texts name has changed since they were encoded
    text_counting        how a text is read without a model: mistakes, names, the number of tokens
    comfy_host           ComfyUI as a hosts.port.Host: a CLIP as its model, its embeddings folders as its library
    comfy_folders        ComfyUI's folders and version
    listed_folders       the same folders, read from its files without starting it
    clip_origin          the files that a CLIP was loaded from, found in the workflow
    shown_pictures       pictures as its nodes exchange and show them

ComfyUI's modules are imported inside functions, so that importing this package imports none of them.
"""
