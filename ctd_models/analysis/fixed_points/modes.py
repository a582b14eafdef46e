"""Modes of Jacobians: all of them of small matrices, the leading ones of large."""

from typing import Any

import jax
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Array, Complex, Float

from ctd_models.analysis.systems import System


def eigendecomposition(
    matrices: Float[np.ndarray, "n d d"], kind: str = "map"
) -> tuple[Complex[np.ndarray, "n d"], Complex[np.ndarray, "n d d"], Complex[np.ndarray, "n d d"]]:
    """(eigenvalues, right, left eigenvectors as columns) of real matrices, the leading mode first.

    Modes of a map are ordered by falling |λ|, those of a flow by falling real part; conjugate pairs stay adjacent, the
    positive imaginary part first. Right eigenvectors have unit length, left ones are biorthogonal to them: LᵀR = I.
    """
    values, right = np.linalg.eig(matrices)
    values, right = values.astype(complex), right.astype(complex)
    order = leading_first(values, kind)
    values = np.take_along_axis(values, order, axis=1)
    right = np.take_along_axis(right, order[:, None, :], axis=2)
    left = np.swapaxes(_inverses(right), 1, 2)
    return values, right, left


def leading_first(values: Complex[np.ndarray, "n k"], kind: str) -> np.ndarray:
    """Indices that sort modes, conjugate pairs adjacent with the positive imaginary part first.

    Members of a pair differ in magnitude by rounding alone, as may other modes: keys are rounded, and ties between
    pairs are broken by the size of the imaginary part, before its sign.
    """
    leading = values.real if kind == "flow" else np.abs(values)
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True, initial=0.0), np.finfo(float).tiny)
    rank = np.round(leading / scale, 12)
    pair = np.round(np.abs(values.imag) / scale, 12)
    real = np.round(values.real / scale, 12)
    return np.lexsort((-values.imag, -pair, -real, -rank), axis=1)


def _inverses(matrices: Complex[np.ndarray, "n d d"]) -> Complex[np.ndarray, "n d d"]:
    try:
        return np.linalg.inv(matrices)
    except np.linalg.LinAlgError:  # a defective Jacobian has no full set of eigenvectors
        return np.linalg.pinv(matrices)


def leading_modes(
    system: System, states: Float[np.ndarray, "n d"], inputs: Float[np.ndarray, "n U"], num_modes: int
) -> tuple[Complex[np.ndarray, "n k"], Complex[np.ndarray, "n d k"], Complex[np.ndarray, "n d k"]]:
    """The k leading modes of ∂F/∂h at each state, as `eigendecomposition` gives all of them, from products with the
    Jacobian alone (implicitly restarted Arnoldi method of ARPACK). k grows by one where it would split a conjugate pair.

    Raises:
        ValueError: the method does not converge.
    """
    kind = "flow" if system.flow else "map"
    found = [_leading_modes_of_one(system, h, x, num_modes, kind) for h, x in zip(states, inputs, strict=True)]
    width = max(len(values) for values, _, _ in found)
    if any(len(values) != width for values, _, _ in found):
        found = [
            _leading_modes_of_one(system, h, x, width, kind, exactly=True) for h, x in zip(states, inputs, strict=True)
        ]
    return tuple(np.stack(parts) for parts in zip(*found, strict=True))


def _leading_modes_of_one(
    system: System, state: Any, inputs: Any, num_modes: int, kind: str, exactly: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = len(state)
    wanted = min(num_modes + 2, size - 2)
    which = "LR" if kind == "flow" else "LM"

    def modes(product):
        operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=state.dtype)
        start = np.cos(np.arange(1.0, size + 1)).astype(state.dtype)
        try:
            values, vectors = scipy.sparse.linalg.eigs(
                operator, wanted, which=which, v0=start, ncv=min(size, 4 * wanted + 20)
            )
        except scipy.sparse.linalg.ArpackError as error:
            raise ValueError(f"the {num_modes} leading modes of a Jacobian did not converge: {error}") from error
        order = leading_first(values[None], kind)[0]
        return values[order], vectors[:, order]

    values, right = modes(lambda v: np.asarray(_push(system, state, inputs, v.reshape(-1))))
    others, left = modes(lambda v: np.asarray(_pull(system, state, inputs, v.reshape(-1))))
    count = num_modes
    if not exactly and values[count - 1].imag > 0:
        count += 1
    nearest = np.abs(others[None] - values[:count, None]).argmin(axis=1)
    right = right[:, :count] / np.linalg.norm(right[:, :count], axis=0)
    left = left[:, nearest]
    return values[:count], right, left / (left * right).sum(axis=0)


@jax.jit
def _push(system: System, state: Float[Array, "d"], inputs: Float[Array, "U"], v: Float[Array, "d"]) -> Array:
    return jax.jvp(lambda h: system.step(h, inputs), (state,), (v,))[1]


@jax.jit
def _pull(system: System, state: Float[Array, "d"], inputs: Float[Array, "U"], v: Float[Array, "d"]) -> Array:
    return jax.vjp(lambda h: system.step(h, inputs), state)[1](v)[0]
