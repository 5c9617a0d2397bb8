"""The tab and the page of its own: `views` make HTML of values, `handlers` answer events, `tab` wires gradio."""
