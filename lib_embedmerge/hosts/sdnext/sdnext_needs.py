"""What EmbedMerge needs of SD.Next."""

from __future__ import annotations

from lib_embedmerge.hosts.host_parts import Part

PROMPTS = Part(
    "handle expressions in prompts",
    (
        "processing_args.set_prompt",
        "processing_diffusers.process_diffusers",
        "prompt_parser_diffusers.get_weighted_text_embeddings",
    ),
)
CHOICES = Part("tell expressions in {} from choices", ("styles.apply_curly_braces_to_prompt",))
COUNTERS = Part("count expressions in token counters", ("ui_common.update_token_counter",))
MODEL = Part(
    "find the active model",
    ("modeldata.model_data", "sd_checkpoint.checkpoints_list", "sd_checkpoint.checkpoint_aliases", "shared.opts"),
)
FOLDER = Part("find the embeddings folder", ("shared.opts.embeddings_dir",))
DATABASE = Part(
    "let SD.Next use the embeddings that it saves", ("textual_inversion.insert_tokens", "sd_hijack_te.prompt_cache")
)

PARTS = (PROMPTS, CHOICES, COUNTERS, MODEL, FOLDER, DATABASE)
