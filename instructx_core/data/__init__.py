"""What is trained on: samples by number from a source, in buckets of one shape, encoded once and kept on disk.

bucket.py a bucket as a value; samples.py what a sample holds; source.py what a source must give; sources.py all sources
by name. From files: record/, readers/, mixture.py, opening.py, records.py, decoding.py. Drawn: world.py, shapes.py.
raw_sample.py a sample as arrays, made by worker processes; encoding.py these -> latents and vision features; cache.py
all of it on disk. The jobs of training/ know a source by its protocol alone.
"""
