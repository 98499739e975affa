"""Settings that every test shares."""

import os

# Set before jax is imported anywhere: sharding is tested on virtual devices, and warnings of the C++ side stay quiet.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
