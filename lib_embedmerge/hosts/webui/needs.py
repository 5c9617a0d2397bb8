"""What EmbedMerge needs of AUTOMATIC1111, Forge, reForge and their forks."""

from __future__ import annotations

from lib_embedmerge.hosts.host_parts import Part

PROMPTS = Part(
    "handle expressions in prompts",
    (
        "processing.StableDiffusionProcessing.get_conds_with_caching",
        "scripts.scripts_data",
    ),
)
COUNTERS = Part("count expressions in token counters", ("script_callbacks.BeforeTokenCounterParams",))
MODEL = Part(
    "find the active model",
    ("sd_models.model_data", "sd_models.checkpoints_list", "sd_models.checkpoint_aliases", "shared.opts"),
)
FOLDER = Part("find the embeddings folder", ("shared.cmd_opts.embeddings_dir",))
PICTURES = Part(
    "make preview pictures",
    (
        "processing.process_images",
        "processing.StableDiffusionProcessingTxt2Img",
        "call_queue.queue_lock",
        "progress.create_task_id",
        "scripts.ScriptRunner",
        "sd_samplers.visible_sampler_names",
        "shared.state.begin",
        "shared.state.interrupt",
    ),
)

PARTS = (PROMPTS, COUNTERS, MODEL, FOLDER, PICTURES)
