"""Muon (Jordan et al. 2024): every kernel moves by its momentum made orthogonal, by steps of Adam's size.

Optax has a Muon too; its results are the same, and tests hold ours to it. That one works off one kernel after another,
hundreds of small kernels on a GPU, and multiplies by the whole matrix fifteen times. Here kernels of one shape are one
batch of matrices, and in float32, where matrix products are dear, a long one is multiplied twice: what is iterated is
the polynomial in its Gram matrix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

BETA = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steep at zero, singular values end between 0.7 and 1.2
_ITERATIONS = 5
_TINY = 1e-8
_LONG = 2
"""From how many times as long as wide a matrix costs less by its Gram matrix: 2 r + 17 products for 10 r + 5."""


class MuonState(NamedTuple):
    """What Muon remembers: updates made, and the running mean of gradients."""

    updates: Int[Array, ""]
    momentum: optax.Updates


def scale_by_muon(size: float, *, half_precision: bool) -> optax.GradientTransformation:
    """Nesterov momentum of kernels ``(..., out)``, made orthogonal as matrices from all their inputs to their outputs.

    Args:
      size: Root mean square of an update, about (Liu et al. 2025, arXiv:2502.16982).
      half_precision: Take matrix products in bfloat16: what is asked of them is only roughly orthogonal.
    """

    def move(direction: Float[Array, "k *in out"]) -> Float[Array, "k *in out"]:
        k, *kept_in, n_out = direction.shape
        n_in = math.prod(kept_in)
        matrices = orthogonalised(direction.reshape(k, n_in, n_out), half_precision=half_precision)
        return (size * math.sqrt(max(n_in, n_out)) * matrices).reshape(direction.shape)

    def init(params: optax.Params) -> MuonState:
        return MuonState(jnp.int32(0), jax.tree.map(jnp.zeros_like, params))

    def update(
        gradient: optax.Updates, state: MuonState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MuonState]:
        del params
        made = optax.safe_increment(state.updates)
        momentum = optax.tree.update_moment(gradient, state.momentum, BETA, 1)
        # as if the next gradient were the same
        ahead = BETA / (1 - BETA ** (made + 1)), (1 - BETA) / (1 - BETA**made)
        direction = jax.tree.map(lambda m, g: ahead[0] * m + ahead[1] * g, momentum, gradient)
        return jax.tree.map(move, direction), MuonState(made, momentum)

    return optax.GradientTransformation(init, update)


def orthogonalised(x: Float[Array, "k m n"], *, half_precision: bool) -> Float[Array, "k m n"]:
    """Matrices with the singular vectors of ``x``, and singular values between 0.7 and 1.2 where they were not tiny.

    Five steps ``x <- (a + b x x' + c (x x')^2) x`` of a Newton-Schulz iteration.
    """
    if x.shape[1] < x.shape[2]:
        return orthogonalised(x.mT, half_precision=half_precision).mT
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + _TINY)
    if half_precision:
        return _by_products(x.astype(jnp.bfloat16)).astype(x.dtype)
    return _by_gram_matrix(x) if x.shape[1] >= _LONG * x.shape[2] else _by_products(x)


def _by_products(x: Array) -> Array:
    for _ in range(_ITERATIONS):
        x = x @ _factor(x.mT @ x)
    return x


def _by_gram_matrix(x: Array) -> Array:
    """The same for long matrices: all factors are polynomials in the first Gram matrix, and none of them is long.

    In half precision rounding would leave that matrix with negative eigenvalues, which every step multiplies by twelve.
    """
    with jax.default_matmul_precision("highest"):
        gram = x.mT @ x
        factor = so_far = _factor(gram)
        for _ in range(_ITERATIONS - 1):
            gram = factor @ gram @ factor
            factor = _factor(gram)
            so_far = so_far @ factor
        return x @ so_far


@jax.jit  # traced once for all matrices of one shape
def _factor(gram: Array) -> Array:
    """``a + b G + c G^2``: with ``a`` in it, what multiplies ``x`` leaves nothing to be added."""
    a, b, c = _COEFFICIENTS
    return a * jnp.eye(gram.shape[-1], dtype=gram.dtype) + b * gram + c * (gram @ gram)
