"""The nodes of ComfyUI: a face, like the tab and the command line. They use hosts/comfyui.

    registration        the classes of the nodes by their ids, for the entry
    node_inputs         what several nodes have in common: their inputs, and errors as ComfyUI shows them
    text_nodes          EmbedMerge, EmbedMerge Text Encode
    making_nodes        Build Embedding, Embedding Picker
    inspecting_nodes    Inspect Embedding, Compare
    clip_comparing      two CLIPs compared
    queued_texts        the texts after the node EmbedMerge, checked before a queue runs
    text_reports        results as plain text
    fit_picture         an inspection as a picture
    reading_route       how a text is read, for the boxes in the page

Nothing heavy is imported before a node runs, because ComfyUI waits for this package at its start.
"""
