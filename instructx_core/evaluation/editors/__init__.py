"""Editors: an item in, a file out. Ours, diffusers pipelines, command lines, and folders of what others made."""
