"""What reads the instruction: prompt, positions and pictures -> Qwen2.5-VL with learnable queries -> query features."""
