"""The tab and the page of its own: `views` make HTML from values, `handlers` answer events, `tab` wires gradio."""
