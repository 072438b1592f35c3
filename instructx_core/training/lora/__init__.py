"""An artist's own edit: LoRA beside the frozen layers of a model that is there.

pairs.py opens the folder, base.py the model, contexts.py keeps what the MLLM says, branches.py adds what is trained,
files.py writes it as others read it. jobs/lora.py trains, runs/lora.py goes through all of it.
"""
