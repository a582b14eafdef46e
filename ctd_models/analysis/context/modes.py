"""Along which modes a deflection lies, and the deflection without them. A conjugate pair is one mode of two dimensions."""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.outcomes import check_points

DEFECTIVE = 1e10  # condition number of the eigenvectors from which a Jacobian counts as defective


@no_type_check  # it checks its arguments itself
def mode_angles(points: FixedPoints, deflections: Float[Any, "n d"]) -> Float[np.ndarray, "n k"]:
    """Angle between each deflection and the left eigenvector of each mode at its point, 0 … 90 degrees.

    A left eigenvector is the direction along which its mode is driven best. Of a conjugate pair it is the angle with the
    plane of the real and imaginary parts, at the places of both members.

    Args:
        points: linearised points.
        deflections: [n, d], one for each point.

    Raises:
        ValueError, TypeError: points without modes, shapes that do not fit, values that are not finite, or a deflection of
            zero length.
    """
    deflections = _checked(points, deflections)
    sizes = np.linalg.norm(deflections, axis=1)
    if not sizes.all():
        raise ValueError(f"the deflection of point {int(np.argmin(sizes))} has no length")
    bases = _bases(points)  # [n, k, d, 2]
    along = np.linalg.norm(np.einsum("nkdi,nd->nki", bases, deflections), axis=2) / sizes[:, None]
    return np.degrees(np.arccos(np.minimum(along, 1.0)))


@no_type_check  # it checks its arguments itself
def mode_components(points: FixedPoints, deflections: Float[Any, "n d"]) -> Float[np.ndarray, "n k d"]:
    """The part of each deflection in each mode: r_k (l_k · δ), of a conjugate pair the sum of both, at both places.

    Without counting pairs twice the parts add up to the deflection.

    Raises:
        ValueError, TypeError: as in `mode_angles`, or a Jacobian whose eigenvectors nearly coincide, so that its modes
            cannot be told apart.
    """
    deflections = _checked(points, deflections)
    conditions = np.linalg.cond(points.right_eigenvectors)
    if not conditions.max() < DEFECTIVE:
        raise ValueError(
            f"the eigenvectors of point {int(conditions.argmax())} nearly coincide (condition {conditions.max():.1e}): "
            "a deflection has no meaningful parts in its modes; orthogonal removal is still possible"
        )
    amounts = np.einsum("ndk,nd->nk", points.left_eigenvectors, deflections)
    parts = np.real(np.swapaxes(points.right_eigenvectors * amounts[:, None, :], 1, 2))
    return parts * np.where(points.eigenvalues.imag != 0, 2.0, 1.0)[:, :, None]


@no_type_check  # it checks its arguments itself
def leading_modes_of(points: FixedPoints, deflections: Float[Any, "n d"], num_modes: int) -> Bool[np.ndarray, "n k"]:
    """The modes whose left eigenvectors lie closest to each deflection (`mode_angles`), pairs as one.

    That is what drives them, not how much of the deflection they hold: where modes are far from orthogonal, a mode at a
    small angle may have a small part in it (`mode_components`), or one that other modes cancel.

    Raises:
        ValueError, TypeError: as in `mode_angles`, or more modes than there are at some point.
    """
    angles = mode_angles(points, deflections)
    first = points.eigenvalues.imag >= 0  # the member that stands for a pair
    most = int(first.sum(axis=1).min())
    if isinstance(num_modes, bool) or int(num_modes) != num_modes or not 1 <= num_modes <= most:
        raise ValueError(f"num_modes must be a whole number in 1 … {most} (pairs count as one), got {num_modes}")
    num_modes = int(num_modes)
    order = np.argsort(np.where(first, angles, np.inf), axis=1, kind="stable")[:, :num_modes]
    chosen = np.zeros(angles.shape, bool)
    np.put_along_axis(chosen, order, True, axis=1)
    chosen &= first
    chosen[:, 1:] |= chosen[:, :-1] & (points.eigenvalues.imag[:, :-1] > 0)
    return chosen


@no_type_check  # it checks its arguments itself
def without_modes(
    points: FixedPoints, deflections: Float[Any, "n d"], modes: Bool[Any, "n k"], *, orthogonal: bool = False
) -> Float[np.ndarray, "n d"]:
    """Deflections that do not excite the chosen modes: l_k · δ = 0 for each of them.

    Args:
        points: linearised points.
        deflections: [n, d], one for each point.
        modes: which modes are removed, both members of a pair or none.
        orthogonal: take out the orthogonal projection on the span of the left eigenvectors, the smallest change that does
            it, which changes other modes too; otherwise r_k (l_k · δ), which leaves the other modes as they are.

    Raises:
        ValueError, TypeError: as in `mode_components`, or half a pair.
    """
    deflections, modes = _checked(points, deflections), np.asarray(modes)
    if modes.dtype != bool or modes.shape != points.eigenvalues.shape:
        raise ValueError(f"expected modes of bool {points.eigenvalues.shape}, got {modes.dtype} {modes.shape}")
    upper = points.eigenvalues.imag > 0
    if (upper[:, :-1] & (modes[:, :-1] != modes[:, 1:])).any():
        raise ValueError("modes hold one member of a conjugate pair without the other")
    if not orthogonal:
        parts = mode_components(points, deflections)
        return deflections - (parts * (modes & (points.eigenvalues.imag >= 0))[:, :, None]).sum(axis=1)
    left = np.where(modes[:, None, :], points.left_eigenvectors, 0)
    left = left / np.maximum(np.linalg.norm(left, axis=1, keepdims=True), np.finfo(float).tiny)
    spans = np.concatenate([left.real, left.imag], axis=2)  # [n, d, 2k]
    rest = np.empty_like(deflections)
    for i, span in enumerate(spans):
        used = span[:, np.abs(span).max(axis=0) > 1e-12]
        u, sizes, _ = np.linalg.svd(used, full_matrices=False)
        u = u[:, sizes > 1e-10 * sizes.max(initial=0.0)]
        rest[i] = deflections[i] - u @ (u.T @ deflections[i])
    return rest


def _bases(points: FixedPoints) -> Float[np.ndarray, "n k d 2"]:
    """Orthonormal bases of the real and imaginary parts of the left eigenvectors; one vector and zeros of a real one."""
    left = np.swapaxes(points.left_eigenvectors, 1, 2)
    left = left / np.linalg.norm(left, axis=2, keepdims=True)
    real = (points.eigenvalues.imag == 0)[..., None]
    # a real eigenvector may have been given a common phase: its real part is turned to be all of it
    phase = np.take_along_axis(left, np.abs(left).argmax(axis=2)[..., None], axis=2)
    left = np.where(real, left / (phase / np.abs(phase)), left)
    first = left.real / np.linalg.norm(left.real, axis=2, keepdims=True)
    second = left.imag - (left.imag * first).sum(axis=2, keepdims=True) * first
    length = np.linalg.norm(second, axis=2, keepdims=True)
    second = np.where(real, 0.0, second / np.maximum(length, np.finfo(float).tiny))
    return np.stack([first, second], axis=3)


def _checked(points: Any, deflections: Any) -> Float[np.ndarray, "n d"]:
    check_points(points)
    deflections = np.asarray(deflections, np.float64)
    if deflections.shape != points.states.shape:
        raise ValueError(f"expected deflections {points.states.shape}, one for each point, got {deflections.shape}")
    if not np.isfinite(deflections).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(deflections))[0])
        raise ValueError(f"deflections hold {deflections[row, column]} at index ({row}, {column})")
    return deflections
