"""From the vectors of an embedding back to the text that makes them."""
