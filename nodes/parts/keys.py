"""Under which names our tensors travel through the host's conditionings, and what our nodes are called in messages.

Source and Reference and Connector write the entries, denoiser_patch.py reads them. No imports: every part may use it.
"""

KEY = "instructx"  # of our wrappers in a ModelPatcher, and of our entry in a conditioning
SOURCE = "instructx_source"  # keyword under which the host hands the source latent to the DiT
NO_NEGATIVE = "instructx_no_negative"  # keyword that marks the stand-in for a negative that was not connected
REFERENCES = "time_dim_concat"  # the host's own entry for latents appended on the frame axis
REFERENCE_COUNT = f"{KEY}_references"  # entry of a conditioning: how many references its queries saw
PICTURES = f"{KEY}_pictures"  # entry of a conditioning: how many pictures are edits of their own; 0: a clip
FPS = f"{KEY}_fps"  # entry of a conditioning: frames per second that the encoder was told, in Hz
PLACEMENT = f"{KEY}_placement"  # entry of a conditioning: fitting.Placement of the source that it carries

SOURCE_NODE = "Source and Reference (InstructX)"
CONNECTOR_NODE = "Connector (InstructX)"
