"""The HTML of the tab, a module for each view: pure functions from values of actions to markup. No gradio, no torch."""
