"""Run by web UIs before they start. EmbedMerge needs only packages that all of them have, so it installs nothing."""
