"""Recipes: what a run trains and how, as frozen dataclasses, one for each kind of job.

base.py what all have; vae.py, mllm.py, text_to_video.py and edit.py one kind each; paper.py the paper's three stages
and tiny.py the tiny model's runs, both as functions; registry.py all of them by name, for `instructx train NAME`.
"""
