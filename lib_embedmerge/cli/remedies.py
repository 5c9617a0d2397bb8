"""What the command line says about how to solve an error: a sentence for each remedy."""

from __future__ import annotations

from lib_embedmerge.errors import Remedies, Remedy

REMEDIES: Remedies = {
    Remedy.OVERWRITE: "To overwrite it, add --force.",
    Remedy.SPLIT: "To split it, add --split.",
    Remedy.READ_AS_PROMPT: "To build it as a prompt anyway, add --as prompt.",
    Remedy.SAVE_RECOVERED: "To save it anyway, add --force.",
    Remedy.GIVE_NAME: "Add --name NAME.",
    Remedy.LEAVE_OUT_NAME: "Leave out --name.",
    Remedy.CHOOSE_BUNDLED: "Add --bundled NAME.",
    Remedy.LEAVE_OUT_BUNDLED: "Leave out --bundled.",
    Remedy.GIVE_TEXT_ENCODERS: "Add --text-encoder FILE.",
    Remedy.GIVE_CHECKPOINT: "Name one with --checkpoint or --models.",
}
