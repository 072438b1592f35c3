"""Jobs, one for each kind of recipe: vae.py, mllm.py, text_to_video.py, edit.py. runs/run.py alone knows them.

drawing.py draws the bucket of a step, flow.py has what the two jobs share that train a DiT. A job reads its own recipe
and a data source's protocol (data/source.py).
"""
