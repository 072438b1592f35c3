"""Training (paper 3.3), in the order of imports: recipes/ <- this folder <- jobs/ <- runs/.

recipes/ says what a run trains and how. Here lie its parts: data drawn by number (rng.py, edit_pools.py), the model
(start.py, parts.py, base.py, model.py, trainable.py), the loop over any TrainingJob (job.py, trainer.py, checkpoint.py)
and where it runs (machine.py, engine.py, sharding.py). jobs/ turn parts and samples into losses; runs/ join a recipe,
its job and the loop.
"""
