"""From clips and instructions to edited latents and back, as free functions over batches; pipeline.py composes them.

arguments.py  what a call may be given       batch.py      what is edited
encode.py     -> contexts, picture latents   noise.py      -> noise
schedule.py   -> noise levels                sigmas.py     them, before any scheduler
denoise.py    -> edited latents: the loop    guidance.py   one velocity; pinning.py: frames that stay
decode.py     -> frames
"""
