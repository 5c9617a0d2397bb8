"""Stand-ins of the web UIs: their `modules` as far as hosts ask for them, over real torch modules.

    checkpoints.py  two full-size SDXL checkpoints and their tables, shared by all doubles
    database.py     the web UIs' embedding database, and how prompts become tokens and embeddings
    layers.py       the modules around a token table
    a1111.py, reforge.py, classic.py, forge.py, neo.py: each puts one into sys.modules
    installed.py    what they share: checkpoint infos, options, processing

Written from the web UIs' source and from what the real ones were seen to do; what the doubles have, the real ones have
under the same name (tests/webui runs the same checks on these).
"""
