"""The examples at the end of each command's help."""

from __future__ import annotations

EXAMPLES = {
    "": """examples:
  embedmerge demo
  embedmerge build "'cat'+'dog'*0.5" --checkpoint model.safetensors --name catdog
  embedmerge COMMAND --help""",
    "build": """examples:
  embedmerge build "'cat'+'dog'*0.5" --checkpoint model.safetensors --name catdog
  embedmerge build "(masterpiece:1.2), red hair" --attention scale --checkpoint model.safetensors --name hair1
  embedmerge build - --split --checkpoint model.safetensors --name long_prompt < prompt.txt""",
    "show": """examples:
  embedmerge show catdog.safetensors
  embedmerge show catdog.safetensors --checkpoint model.safetensors --vectors""",
    "list": """examples:
  embedmerge list --embeddings embeddings
  embedmerge list --embeddings embeddings --checkpoint model.safetensors --json""",
    "rebuild": """examples:
  embedmerge rebuild catdog.safetensors --checkpoint pony.safetensors
  embedmerge rebuild embeddings --checkpoint pony.safetensors noob.safetensors --output rebuilt""",
    "recover": """examples:
  embedmerge recover old.pt --checkpoint model.safetensors
  embedmerge recover old.safetensors --checkpoint a.safetensors b.safetensors --save""",
    "convert": """examples:
  embedmerge convert old.pt --output embeddings
  embedmerge convert learned_embeds.bin learned_embeds_2.bin --name my_style
  embedmerge convert sd1-style.pt --to sdxl --checkpoint model.safetensors""",
    "restore": """examples:
  embedmerge restore embeddings --checkpoint model.safetensors --dry-run --report report.html
  embedmerge restore embeddings --checkpoint pony.safetensors noob.safetensors --output restored""",
    "compare": """examples:
  embedmerge compare base.safetensors pony.safetensors
  embedmerge compare base.safetensors pony.safetensors --source "a cat" """.rstrip(),
    "effect": """examples:
  embedmerge effect style.safetensors --checkpoint base.safetensors pony.safetensors
  embedmerge effect "a cat" --checkpoint base.safetensors pony.safetensors --json""",
    "groups": """examples:
  embedmerge groups --checkpoint a.safetensors b.safetensors c.safetensors
  embedmerge groups style.safetensors --checkpoint a.safetensors b.safetensors --limit 0.05 --picture groups.svg""",
    "tokens": """examples:
  embedmerge tokens "a photo of a cat, best quality" --checkpoint model.safetensors""",
    "shorten": """examples:
  embedmerge shorten - --checkpoint model.safetensors < prompt.txt
  embedmerge shorten "a cat, a dog, a house" --vectors 5 --checkpoint model.safetensors""",
    "compress": """examples:
  embedmerge compress "a very long prompt" --vectors 16 --checkpoint model.safetensors --name short
  embedmerge compress long.safetensors --vectors 8 --checkpoint model.safetensors""",
    "port": """examples:
  embedmerge port style.safetensors --from base.safetensors --to pony.safetensors""",
    "repair": """examples:
  embedmerge repair loud.safetensors --checkpoint model.safetensors""",
    "parse": """examples:
  embedmerge parse "a photo of <'cat'+'dog'>"
  embedmerge parse "(masterpiece:1.2), cat" --by tokens""",
    "info": """examples:
  embedmerge info model.safetensors""",
    "report": """examples:
  embedmerge report
  embedmerge report --checkpoint model.safetensors""",
    "serve": """examples:
  embedmerge serve --checkpoint model.safetensors --open
  embedmerge serve --models models --embeddings embeddings --port 7861""",
    "demo": """examples:
  embedmerge demo
  embedmerge build "'cat'+'dog'" --checkpoint embedmerge-demo.safetensors --name catdog""",
}
"""Command -> the examples at the end of its `--help`. Tests run them through the parser."""
