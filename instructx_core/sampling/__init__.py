"""From clips and instructions to edited latents and back, as free functions over batches; pipeline.py composes them.

batch.py      what is edited                 encode.py     -> contexts and latents of the pictures
latents.py    -> noise                       schedule.py   -> noise levels (sigmas.py: before any scheduler)
denoise.py    -> edited latents: the loop    guidance.py   one velocity; pinning.py: frames that stay
decode.py     -> frames
"""
