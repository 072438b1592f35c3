"""From noise to an edited latent: noise levels, the scheduler, pinned frames."""
