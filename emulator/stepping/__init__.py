"""A network as a model of the atmosphere: one step, many steps, and what a step may not do. Pure and jit-safe."""
