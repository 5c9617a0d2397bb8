"""What a user can do, whatever face asks for it: plain values in, plain values out. Draws nothing, knows no web UI."""
