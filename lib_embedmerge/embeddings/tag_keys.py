"""The keys of the model tag. tag.py reads their values, and tag_writing.py writes them.

Sources: ModelSpec 1.0.1 (modelspec.*) and kohya sd-scripts (ss_*); EmbedMerge defines embedmerge.*. The key of a text
encoder follows TOKEN_TABLE and TEXT_ENCODER.
"""

from __future__ import annotations

SPEC = "modelspec.sai_model_spec"
ARCHITECTURE = "modelspec.architecture"
IMPLEMENTATION = "modelspec.implementation"
TITLE = "modelspec.title"
DATE = "modelspec.date"
PAYLOAD_HASH = "modelspec.hash_sha256"
TRIGGER = "modelspec.trigger_phrase"
USAGE_HINT = "modelspec.usage_hint"
MERGED_FROM = "modelspec.merged_from"
PREDICTION = "modelspec.prediction_type"
NEGATIVE = "modelspec.is_negative_embedding"
MODEL_FILE = "ss_sd_model_name"
MODEL_HASH = "ss_new_sd_model_hash"
BASE_VERSION = "ss_base_model_version"
PREFIX = "embedmerge."
SCHEMA = PREFIX + "schema"
PROGRAM_VERSION = PREFIX + "version"
RECIPE = PREFIX + "recipe"
USES = PREFIX + "uses"
OTHER_PREDICTION = PREFIX + "prediction_type"
"""The prediction type of the checkpoint if it is one for which ModelSpec has no word."""
TOKEN_TABLE = PREFIX + "token_table."
TEXT_ENCODER = PREFIX + "text_encoder."
TEXT_ENCODER_FILES = PREFIX + "text_encoders"
NOTES = PREFIX + "notes"
NOTES_BY_MODEL = PREFIX + "notes_by_model"
"""What the user noted about the embedding on single models, as a JSON object (model_notes.py)."""
VARIANT_OF = PREFIX + "variant_of"
CONVERTED_FROM = PREFIX + "converted_from"
"""Names of the files that an embedding was converted from, and their form."""
MADE_BY = PREFIX + "made_by"
"""How vectors that are not text were made, as a JSON object."""
FACTS = PREFIX + "facts"
"""What these files say besides the vectors, as a JSON object of texts."""

METHODS = ("compress", "port", "repair")
"""Values of `method` in MADE_BY."""
STANDARD_PREDICTIONS = frozenset(("epsilon", "v"))
"""Values of PREDICTION; ModelSpec has no others."""
OTHER_PREDICTIONS = frozenset(("edm", "flow"))
"""Values of OTHER_PREDICTION."""

_ABOUT_FILE = (SPEC, ARCHITECTURE, IMPLEMENTATION, TITLE, DATE, PAYLOAD_HASH, TRIGGER, USAGE_HINT)
_ABOUT_MODEL = (MERGED_FROM, PREDICTION, MODEL_FILE, MODEL_HASH, BASE_VERSION)

REPLACED = frozenset((*_ABOUT_FILE, *_ABOUT_MODEL))
"""Keys of other standards that a new tag replaces. NEGATIVE is not one, because it is about the user's intention, not
about the model."""

SPEC_VERSION = "1.0.1"
SCHEMA_VERSION = "1"
REFERENCE_CODE = "https://github.com/Stability-AI/generative-models"
"""Value of modelspec.implementation. kohya sd-scripts writes it for textual inversions of every architecture."""
