"""The tab's HTML, a module for each view: pure functions from the values of actions to markup; no gradio, no torch."""
