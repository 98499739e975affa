"""XLA's flags for tests, most of whose time goes into compiling what runs for milliseconds. Imports no JAX."""

from importlib.metadata import version

# Kernels of fused loops take up to a third of the compilation (of SPEEDY's), and are no faster here. XLA ends the
# process at a flag that it does not know, and JAX 0.12's knows this one no more.
_NO_EMITTERS = ["--xla_cpu_use_fusion_emitters=false"] if version("jaxlib").startswith("0.10.") else []


def flags(level: int) -> str:
    """Those that make it compile fast, at a level of optimisation."""
    return " ".join([f"--xla_backend_optimization_level={level}", *_NO_EMITTERS])
