"""Delayed grasps of many objects: see one, remember it, then reach out and shape the hand for it."""

import dataclasses
import functools
from typing import Any, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ctd_models.tasks.checks import check_range
from ctd_models.tasks.trials import Trials

HIDDEN = 64  # units of the fixed networks that look at the objects
ARM, HAND = 3, 6  # synergies; the first of the hand is its aperture


@dataclasses.dataclass(frozen=True)
class DelayedGrasp:
    """See an object, hold still with what was seen in mind, and on the go signal reach for it and grasp it.

    Inputs: `num_features` visual features of the object while it is lit (the cue), 0 at other times, and a hold line that is
    1 until the go signal and 0 after it. Targets: lengths of `num_muscles` muscles, the first half of the arm and the others
    of the hand, about their rest, such that their mean square over muscles and objects is 1 when the object is held. Every
    step counts.

    There are num_shapes · num_sizes objects. Object s · num_sizes + k has the latent z = (size, three numbers of its
    shape), with sizes evenly spaced over −1 … 1. Looks and grasps are fixed smooth nonlinear functions of z:

        features = leading principal components, over all objects, of tanh(V z + c)
        lengths(t) = m(u) a(z) S_arm + m(u / 0.7) h(z) S_hand + b(u) o(z) S_aperture,    u = (t − onset) / movement

    a and h are the final postures along the synergies S (rows, orthonormal). m is the minimum-jerk time course
    10u³ − 15u⁴ + 6u⁵ with its bell-shaped speed, 0 before u = 0 and 1 after u = 1 (Flash & Hogan 1985,
    doi:10.1523/JNEUROSCI.05-07-01688.1985); b ∝ u³(1 − u)² makes the aperture overshoot, most at 60 % of the reach
    (Jeannerod 1984, doi:10.1080/00222895.1984.10735319). The onset is `reaction` after the go signal.

    In the manner of Michaels, Schaffelhofer, Agudelo-Toro & Scherberger (2020, doi:10.1073/pnas.2005087117), whose features
    are those of a network for vision and whose kinematics were recorded.
    """

    num_shapes: int = 6
    """Shapes of objects."""
    num_sizes: int = 8
    """Sizes of each shape."""
    num_features: int = 20
    """Visual features, by falling variance over the objects; their mean variance is 1."""
    num_muscles: int = 50
    """Muscles, an arm and a hand."""
    feature_noise: float = 0.2
    """Standard deviation of the noise on each feature, drawn once for a trial."""
    objects: tuple[int, ...] | None = None
    """The objects that `sample` shows, equally often; None: all."""
    dt: float = 0.02
    """Length of a step [s]."""
    fixation: float = 0.2
    """Before the cue [s]."""
    cue: float = 0.4
    """While the object is lit [s]."""
    memory: tuple[float, float] = (0.3, 0.7)
    """Shortest and longest time from the end of the cue to the go signal [s]; uniform between."""
    reaction: float = 0.16
    """From the go signal to the onset of the movement [s]."""
    movement: float = 0.6
    """From the onset to the final posture [s]."""
    hold: float = 0.2
    """With the object in hand, at least [s]; longer after a shorter memory, so that all trials have one length."""
    seed: int = 0
    """Of the objects, of what they look like and of how they are grasped: another seed is another world."""

    def __post_init__(self):
        object.__setattr__(self, "memory", tuple(float(t) for t in self.memory))
        least = {"num_shapes": 1, "num_sizes": 2, "num_features": 1, "num_muscles": 2 * max(ARM, HAND)}
        for name, fewest in least.items():
            if isinstance(getattr(self, name), str) or getattr(self, name) != int(max(fewest, getattr(self, name))):
                raise ValueError(f"{name} must be a whole number of at least {fewest}, got {getattr(self, name)!r}")
        if self.num_features > (most := min(HIDDEN, self.num_objects - 1)):
            raise ValueError(f"{self.num_objects} objects have at most {most} features, got {self.num_features}")
        if self.feature_noise < 0:
            raise ValueError(f"feature_noise cannot be negative, got {self.feature_noise}")
        if not self.dt > 0:
            raise ValueError(f"dt must be positive [s], got {self.dt}")
        if len(self.memory) != 2 or not 0 < self.memory[0] <= self.memory[1]:
            raise ValueError(f"memory must be a shortest and a longest time [s], got {self.memory}")
        for name in ("fixation", "cue", "reaction", "movement", "hold"):
            if round(getattr(self, name) / self.dt) < 1:
                raise ValueError(f"{name} must last a step (dt = {self.dt} s) or more, got {getattr(self, name)} s")
        if self.objects is not None:
            if not self.objects or not set(self.objects) <= set(range(self.num_objects)):
                raise ValueError(f"objects must be among 0 … {self.num_objects - 1}, got {self.objects}")
            object.__setattr__(self, "objects", tuple(int(i) for i in self.objects))

    @property
    def num_objects(self) -> int:
        """Objects there are."""
        return self.num_shapes * self.num_sizes

    @property
    def memory_range(self) -> tuple[int, int]:
        """Fewest and most steps of the memory."""
        fewest, most = (max(1, round(seconds / self.dt)) for seconds in self.memory)
        return fewest, most

    @property
    def num_steps(self) -> int:
        """Steps T in a trial."""
        return self.epochs(self.memory_range[1])["hold"].stop

    @property
    def latents(self) -> Float[np.ndarray, "objects 4"]:
        """Size and shape of each object."""
        return _world(self).latents

    @property
    def features(self) -> Float[np.ndarray, "objects F"]:
        """What each object looks like without noise."""
        return _world(self).features

    @property
    def postures(self) -> Float[np.ndarray, "objects M"]:
        """The lengths of the muscles with each object in hand."""
        return _world(self).final @ _world(self).synergies

    def epochs(self, memory_steps: int) -> dict[str, slice]:
        """Name → steps of a trial with so long a memory: fixation, cue, memory, movement (from the go signal), hold.

        The hold is that of the longest memory: in other trials it goes on to the end.
        """
        fixation, cue, reaction, movement, hold = (
            round(t / self.dt) for t in (self.fixation, self.cue, self.reaction, self.movement, self.hold)
        )
        lengths = {"fixation": fixation, "cue": cue, "memory": memory_steps}
        lengths |= {"movement": reaction + movement, "hold": hold}
        ends = np.cumsum(list(lengths.values())).tolist()
        return {name: slice(end - steps, end) for end, (name, steps) in zip(ends, lengths.items(), strict=True)}

    @no_type_check  # it checks its arguments itself
    def trials(
        self,
        key: PRNGKeyArray,
        objects: Int[Array, "B"],
        memory_steps: Int[Array, "B"] | int,
        feature_noise: float | None = None,
    ) -> Trials:
        """Trials with these objects and lengths of the memory; `feature_noise` in place of the task's.

        Raises:
            ValueError: objects that do not exist, or a memory that is out of range (in `jax.jit` only shapes are seen).
        """
        objects, (fewest, most) = jnp.asarray(objects), self.memory_range
        if objects.ndim != 1 or not jnp.issubdtype(objects.dtype, jnp.integer):
            raise ValueError(f"expected objects [B] of integers, got {objects.dtype} of shape {objects.shape}")
        shape, kind = jnp.shape(memory_steps), jnp.result_type(memory_steps)
        if shape not in ((), objects.shape) or not jnp.issubdtype(kind, jnp.integer):
            raise ValueError(f"expected memory_steps {objects.shape} or one, integers, got {kind} of shape {shape}")
        if feature_noise is not None and not feature_noise >= 0:
            raise ValueError(f"feature_noise cannot be negative, got {feature_noise}")
        check_range("objects", objects, 0, self.num_objects - 1)
        check_range("memory_steps", memory_steps, fewest, most)
        noise = self.feature_noise if feature_noise is None else feature_noise
        world, epochs, steps = _world(self), self.epochs(0), jnp.arange(self.num_steps)
        memory_steps = jnp.broadcast_to(jnp.asarray(memory_steps), objects.shape)
        go = (epochs["memory"].start + memory_steps)[:, None]
        seen = jnp.asarray(world.features)[objects]
        seen = seen + noise * jax.random.normal(key, seen.shape)
        lit = (steps >= epochs["cue"].start) & (steps < epochs["cue"].stop)
        hold = jnp.asarray(steps < go, seen.dtype)[..., None]
        inputs = jnp.concatenate([lit[:, None] * seen[:, None], hold], axis=-1)
        # the posture at the end of step t, which is step t + 1 − go of those since the go signal
        u = ((steps + 1 - go) * self.dt - self.reaction) / self.movement
        arm, hand, overshoot = (f(u)[..., None] for f in (minimum_jerk, lambda u: minimum_jerk(u / 0.7), _bump))
        course = jnp.concatenate([jnp.repeat(arm, ARM, axis=-1), jnp.repeat(hand, HAND, axis=-1)], axis=-1)
        along = course * jnp.asarray(world.final)[objects][:, None]
        along = along.at[..., ARM].add(overshoot[..., 0] * jnp.asarray(world.overshoot)[objects][:, None])
        targets = along @ jnp.asarray(world.synergies)
        return Trials(inputs, targets, jnp.ones_like(hold))

    def draw(self, key: PRNGKeyArray, batch_size: int) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
        """(objects, steps of the memory) of trials at random."""
        object_key, memory_key = jax.random.split(key)
        shown = jnp.arange(self.num_objects) if self.objects is None else jnp.asarray(self.objects)
        fewest, most = self.memory_range
        memory_steps = jax.random.randint(memory_key, (batch_size,), fewest, most + 1)
        return jax.random.choice(object_key, shown, (batch_size,)), memory_steps

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: inputs [B, T, features + 1], targets [B, T, muscles]. Pure, and compiles inside `jax.jit`.

        `object_of` gives their objects, `go_step_of` the steps of their go signals.
        """
        draw_key, noise_key = jax.random.split(key)
        return self.trials(noise_key, *self.draw(draw_key, batch_size))

    @no_type_check  # it checks its arguments itself
    def object_of(self, trials: Trials) -> Int[Array, "B"]:
        """The object of each trial: the one whose posture is taken at the end. Pure, and compiles inside `jax.jit`.

        Raises:
            ValueError: targets are not those of this task.
        """
        targets = jnp.asarray(trials.targets)
        if targets.shape[1:] != (self.num_steps, self.num_muscles):
            raise ValueError(f"expected targets [B, {self.num_steps}, {self.num_muscles}], got shape {targets.shape}")
        distances = jax.vmap(lambda last: ((last - jnp.asarray(self.postures)) ** 2).sum(axis=-1))(targets[:, -1])
        return jnp.argmin(distances, axis=-1)


def go_step_of(trials: Trials) -> Int[Array, "B"]:
    """The first step of each trial of `DelayedGrasp` in which the hold line is 0."""
    return (jnp.asarray(trials.inputs)[..., -1] > 0.5).sum(axis=1)


def minimum_jerk(u: Float[Any, "*shape"]) -> Float[Array, "*shape"]:
    """10u³ − 15u⁴ + 6u⁵ from 0 to 1: the smoothest way from rest to rest. 0 before u = 0, 1 after u = 1."""
    u = jnp.clip(u, 0.0, 1.0)
    return u**3 * (10 - 15 * u + 6 * u**2)


def _bump(u: Any) -> Any:
    """∝ u³(1 − u)², largest at u = 3/5, where it is 1."""
    u = jnp.clip(u, 0.0, 1.0)
    return u**3 * (1 - u) ** 2 * (5**5 / (3**3 * 2**2))


class _World(NamedTuple):
    latents: Float[np.ndarray, "objects 4"]
    features: Float[np.ndarray, "objects F"]
    final: Float[np.ndarray, "objects S"]
    """Final postures along the synergies, first those of the arm."""
    overshoot: Float[np.ndarray, "objects"]
    synergies: Float[np.ndarray, "S M"]


def _world(task: DelayedGrasp) -> _World:
    return _make_world(task.num_shapes, task.num_sizes, task.num_features, task.num_muscles, task.seed)


@functools.lru_cache(maxsize=16)
def _make_world(num_shapes: int, num_sizes: int, num_features: int, num_muscles: int, seed: int) -> _World:
    """The objects, how they look and how they are grasped."""
    shape_rng, look_rng, grasp_rng = np.random.default_rng(seed).spawn(3)
    size = np.tile(np.linspace(-1, 1, num_sizes), num_shapes)[:, None]
    latents = np.concatenate([size, np.repeat(shape_rng.normal(size=(num_shapes, 3)), num_sizes, axis=0)], axis=1)

    seen = _smooth(look_rng, latents, HIDDEN, 0.5)
    seen = seen - seen.mean(axis=0)
    features = seen @ np.linalg.svd(seen, full_matrices=False)[2][:num_features].T
    features /= np.sqrt((features**2).mean())

    postures = _smooth(grasp_rng, latents, HIDDEN, 1.5) @ grasp_rng.normal(size=(HIDDEN, ARM + HAND)) / HIDDEN**0.5
    postures = (postures - postures.mean(axis=0)) / postures.std(axis=0)
    common = grasp_rng.choice([-1.0, 1.0], ARM + HAND) * np.r_[np.full(ARM, 2.0), np.full(HAND, 0.5)]
    final = common + postures * np.r_[np.full(ARM, 0.5), np.full(HAND, 1.0)]
    final[:, ARM] = 1.0 + 0.8 * size[:, 0]  # the aperture follows the size
    overshoot = 0.8 + 0.2 * np.tanh(size[:, 0])
    arm = np.linalg.qr(grasp_rng.normal(size=(num_muscles // 2, ARM)))[0].T
    hand = np.linalg.qr(grasp_rng.normal(size=(num_muscles - num_muscles // 2, HAND)))[0].T
    synergies = np.block([[arm, np.zeros((ARM, hand.shape[1]))], [np.zeros((HAND, arm.shape[1])), hand]])
    scale = np.sqrt(((final @ synergies) ** 2).mean())
    arrays = latents, features, final / scale, overshoot / scale, synergies
    return _World(*(np.asarray(array, np.float32) for array in arrays))


def _smooth(rng: np.random.Generator, latents: np.ndarray, width: int, gain: float) -> np.ndarray:
    """tanh(gain · (z V + c)) of a fixed random layer."""
    return np.tanh(gain * (latents @ rng.normal(size=(latents.shape[1], width)) + rng.normal(size=width)))
