"""What makes a whole edit faster or smaller: caches, reuse, tiles, offload, several GPUs; each one argument away."""
