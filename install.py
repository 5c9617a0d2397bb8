"""Run by the web UIs before they start. EmbedMerge needs only what all of them ship, so there is nothing to install."""
