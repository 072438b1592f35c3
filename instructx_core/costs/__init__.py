"""What a model and an edit cost: parameters, FLOPs, bytes, and the floor of a card. Fake tensors, no weights."""
