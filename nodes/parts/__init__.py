"""What the nodes share: the host's symbols, wires, inputs, the model patch. Nodes are in the folder above."""
