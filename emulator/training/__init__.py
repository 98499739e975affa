"""Training: what is minimised and how, the loop, what it costs beforehand, and how devices share it."""
