"""A rate network of modules: dense inside each, sparse between those that are linked."""

import itertools
from collections.abc import Mapping
from typing import Any, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ctd_models.models.cells import Cell
from ctd_models.models.initializers import WeightInit, as_initializer

COLLECTION = "links"

Link = tuple[str, str]
"""(source, target): the names of two modules."""


def chain(*names: str) -> tuple[Link, ...]:
    """Links both ways between neighbours: `chain("A", "B", "C")` is A → B, B → A, B → C, C → B."""
    return tuple(link for a, b in itertools.pairwise(names) for link in ((a, b), (b, a)))


class ModularRNNCell(Cell):
    """Rate networks that are joined by sparse links, for each module m

        τ dx_m/dt = −x_m + r_m W_mm + Σ_{links n → m} r_n W_nm + u B_m + b_m + noise,    r = φ(x)

    by Euler steps of dt and with the noise of `ContinuousRNNCell`. B_m is there for the modules of `inputs_to`; the cell
    puts out the rates of those of `output_from`. W_mm are dense. In W_nm every unit of m listens to the same number
    k = max(1, round(density · N_n)) of units of n, which are drawn once from the rng stream `params`.

    The state is a mapping, name of a module → x_m [*batch, N_m]; `states["F5"]` is that module's trajectory. (States that
    analysis flattens hold the modules in alphabetical order; `FixedPoints.unravel` names them again.)

    All weights are blocks of one parameter `recurrent_kernel` [N, N], rows to columns, with the modules in the order of
    `modules`. Which of them are there says the array `mask` [N, N] of the collection "links", which no optimizer changes;
    the others are 0, without a gradient. (Flax's own `nn.RNN` needs `variable_broadcast=("params", "links")`.)

    Michaels, Schaffelhofer, Agudelo-Toro & Scherberger (2020, doi:10.1073/pnas.2005087117).
    """

    modules: tuple[str, ...]
    """Names of the modules, from the inputs to the outputs: this order says which links are `feedforward`."""
    sizes: tuple[int, ...]
    """Units N_m of each."""
    links: tuple[Link, ...]
    """Pairs (source, target) of names, such as `chain("AIP", "F5", "M1")`; any graph will do."""
    inputs_to: tuple[str, ...]
    """The modules that receive the inputs."""
    output_from: tuple[str, ...]
    """The modules whose rates the cell puts out, side by side in the order of `modules`."""
    density: float = 0.1
    """Share of the weights of a link that are there, in (0, 1]."""
    tau: float = 0.1
    """Time constant τ [s]."""
    dt: float = 0.01
    """Euler step [s], at most tau."""
    noise: float = 0.0
    """σ, the standard deviation that the noise alone would give a unit. Drawn from the rng stream `noise`."""
    activation: str = "rectified_tanh"
    """Name of φ: a function of `flax.linen`, or "rectified_tanh", max(tanh x, 0)."""
    recurrent_init: WeightInit = 1.0
    """Of W_mm [N_m, N_m]; a number g is N(0, g²/N_m)."""
    link_init: WeightInit = 1.0
    """Of the weights of a link that are there; a number g is N(0, g²/k). An `Initializer` makes [N_n, N_m], which is
    thinned out and multiplied by √(N_n/k)."""
    input_init: WeightInit = 1.0
    """Of B [U, units that receive inputs]; a number g is N(0, g²/U)."""
    bias_init: float = 0.0
    """Initial value of b [N]."""
    deterministic: bool = False
    """True switches the noise off."""

    def __post_init__(self):
        for name in ("modules", "sizes", "inputs_to", "output_from", "links"):
            if isinstance(value := getattr(self, name), str) or not np.iterable(value):
                raise ValueError(f"{name} must be a tuple, one entry for each, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        if wrong := [link for link in self.links if isinstance(link, str) or not np.iterable(link)]:
            raise ValueError(f"links must be pairs (source, target), got {wrong[0]!r}")
        object.__setattr__(self, "links", tuple(tuple(link) for link in self.links))
        sizes = (int(size) if isinstance(size, np.integer) else size for size in self.sizes)
        object.__setattr__(self, "sizes", tuple(sizes))
        _check_modules(self)
        super().__post_init__()
        if not 0 < self.dt <= self.tau:
            raise ValueError(f"dt must lie in (0, tau = {self.tau}] s for stable Euler steps, got {self.dt}")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise is a standard deviation and cannot be negative, got {self.noise}")

    @property
    def features(self) -> int:
        """Units N of all modules."""
        return sum(self.sizes)

    @property
    def feedforward(self) -> tuple[Link, ...]:
        """The links along the order of `modules`."""
        return tuple(link for link in self.links if self.modules.index(link[0]) < self.modules.index(link[1]))

    @property
    def feedback(self) -> tuple[Link, ...]:
        """The links against it."""
        return tuple(link for link in self.links if link not in self.feedforward)

    def initialize_carry(self, rng: PRNGKeyArray, input_shape: tuple[int, ...]) -> dict[str, Float[Array, "..."]]:
        """A state of zeros for inputs of `input_shape` [*batch, U]."""
        return {name: jnp.zeros((*input_shape[:-1], size)) for name, size in self._size.items()}

    @nn.compact
    @no_type_check  # it checks its arguments itself
    def __call__(
        self, carry: Mapping[str, Float[Any, "*batch _"]], inputs: Float[Any, "*batch U"]
    ) -> tuple[dict[str, Float[Array, "*batch _"]], Float[Array, "*batch O"]]:
        """One step, (state, inputs) → (next state, rates of `output_from`)."""
        x = self._joined(carry)
        key = self.make_rng("params") if self.is_initializing() else None
        mask = self.variable(COLLECTION, "mask", self._draw_mask, key).value
        kernel = self.param("recurrent_kernel", self._draw_kernel, mask)
        drive = self.activate(x) @ jnp.where(mask, kernel, 0.0)
        drive = drive + self.param("bias", nn.initializers.constant(self.bias_init), (self.features,))
        alpha = self.dt / self.tau
        x = (1 - alpha) * x + alpha * drive
        if self.noise > 0 and not self.deterministic:
            x = x + (2 * alpha) ** 0.5 * self.noise * jax.random.normal(self.make_rng("noise"), x.shape, x.dtype)
        x = _split(x, self._size)
        if inputs.shape[-1]:
            receivers = {name: size for name, size in self._size.items() if name in self.inputs_to}
            kernel = self.kernel("input_kernel", self.input_init, (inputs.shape[-1], sum(receivers.values())))
            driven = _split(alpha * (inputs @ kernel), receivers)
            x = {name: part + driven[name] if name in driven else part for name, part in x.items()}
        return x, self.output(x)

    def rates(self, state: Mapping[str, Float[Any, "..."]]) -> dict[str, Float[Array, "..."]]:
        """The rates φ(x) of each module.

        Raises:
            ValueError: the state is no mapping with all modules.
        """
        if not isinstance(state, Mapping) or set(state) != set(self.modules):
            found = sorted(state) if isinstance(state, Mapping) else f"an array of shape {jnp.shape(state)}"
            raise ValueError(f"expected a state by module, {self.modules}, got {found}")
        return {name: self.activate(state[name]) for name in self.modules}

    def output(self, carry: Mapping[str, Float[Any, "..."]]) -> Float[Array, "*batch O"]:
        """The rates of the modules of `output_from`, side by side."""
        return jnp.concatenate(
            [self.activate(carry[name]) for name in self.modules if name in self.output_from], axis=-1
        )

    def blocks(self, variables: Mapping[str, Any]) -> dict[Link, Float[Array, "_ _"]]:
        """The weights [N_source, N_target] inside modules, as (name, name), and of every link, in effect.

        Args:
            variables: of the cell, or of one network that holds it.
        """
        path, mask = self._mask_of(variables)
        kernel = jnp.where(mask, _at(variables["params"], path)["recurrent_kernel"], 0.0)
        return {(a, b): kernel[self._block(a, b)] for a, b in (*((m, m) for m in self.modules), *self.links)}

    def lesion(self, variables: Mapping[str, Any], *links: Link) -> dict[str, Any]:
        """A copy of `variables` (of the cell, or of one network that holds it) in which these links are cut for good.

        Raises:
            ValueError: a link is not one of the cell's, or variables hold no such cell.
        """
        if unknown := [link for link in links if tuple(link) not in self.links]:
            raise ValueError(f"expected links (source, target) among {list(self.links)}, got {unknown}")
        path, mask = self._mask_of(variables)
        kernel = _at(variables["params"], path)["recurrent_kernel"]
        for link in links:
            mask = mask.at[self._block(*link)].set(False)
        params = traverse_util.flatten_dict(variables["params"])
        masks = traverse_util.flatten_dict(variables[COLLECTION])
        params[(*path, "recurrent_kernel")] = jnp.where(mask, kernel, 0.0)
        masks[(*path, "mask")] = mask
        return {
            **variables,
            "params": traverse_util.unflatten_dict(params),
            COLLECTION: traverse_util.unflatten_dict(masks),
        }

    @property
    def _size(self) -> dict[str, int]:
        """Name → units, in the order of `modules`."""
        return dict(zip(self.modules, self.sizes, strict=True))

    def _draw_mask(self, key: PRNGKeyArray) -> Bool[Array, "N N"]:
        module = np.repeat(np.arange(len(self.sizes)), self.sizes)  # of each unit
        links = [tuple(map(self.modules.index, link)) for link in self.links]
        linked, inside = np.zeros((len(self.sizes),) * 2, bool), module[:, None] == module
        linked[tuple(np.array(links, int).reshape(-1, 2).T)] = True
        starts, listened = np.cumsum(self.sizes) - self.sizes, np.array([self._listened(name) for name in self.modules])
        # one sort of each column puts the units of each source into a random order of their own
        order = jnp.argsort(module[:, None] + jax.random.uniform(key, inside.shape), axis=0)
        chosen = order - starts[module][:, None] < listened[module][:, None]
        return inside | (linked[module][:, module] & chosen)

    def _draw_kernel(self, key: PRNGKeyArray, mask: Bool[Array, "N N"]) -> Float[Array, "N N"]:
        kernel, blocks = jnp.zeros(mask.shape), (*((name, name) for name in self.modules), *self.links)
        for (source, target), block_key in zip(blocks, jax.random.split(key, len(blocks)), strict=True):
            init = as_initializer(self.recurrent_init if source == target else self.link_init)
            scale = 1.0 if source == target else (self._size[source] / self._listened(source)) ** 0.5
            weights = scale * init(block_key, (self._size[source], self._size[target]))
            kernel = kernel.at[self._block(source, target)].set(weights)
        return jnp.where(mask, kernel, 0.0)

    def _listened(self, source: str) -> int:
        """Units of a source that each unit of a target listens to."""
        return max(1, round(self.density * self._size[source]))

    def _block(self, source: str, target: str) -> tuple[slice, slice]:
        """Where the weights from one module to another are."""
        at = [self.modules.index(name) for name in (source, target)]
        return tuple(slice(sum(self.sizes[:i]), sum(self.sizes[: i + 1])) for i in at)

    def _joined(self, state: Any) -> Float[Array, "*batch N"]:
        """All modules side by side, checked."""
        named = isinstance(state, Mapping)
        found = {name: jnp.shape(x)[-1:] for name, x in state.items()} if named else jnp.shape(state)
        if found != {name: (size,) for name, size in self._size.items()}:
            raise ValueError(f"expected a state of modules with units {self._size}, got {found}")
        return jnp.concatenate([state[name] for name in self.modules], axis=-1)

    def _mask_of(self, variables: Mapping[str, Any]) -> tuple[tuple[str, ...], Bool[Array, "N N"]]:
        """(path of the cell's variables, mask), wherever in the variables of a network they are."""
        flat = traverse_util.flatten_dict(dict(variables.get(COLLECTION, {})))
        found = [(path[:-1], jnp.asarray(mask)) for path, mask in flat.items() if path[-1] == "mask"]
        if len(found) != 1 or found[0][1].shape != (self.features, self.features):
            shapes = [mask.shape for _, mask in found]
            raise ValueError(
                f"expected variables of one cell with a mask {(self.features, self.features)} in the collection "
                f"{COLLECTION!r}, got masks of shapes {shapes} in the collections {sorted(variables)}"
            )
        return found[0]


def _split(x: Float[Array, "*batch N"], sizes: Mapping[str, int]) -> dict[str, Float[Array, "*batch _"]]:
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: x[..., end - size : end] for (name, size), end in zip(sizes.items(), ends, strict=True)}


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _check_modules(cell: ModularRNNCell) -> None:
    names, sizes = cell.modules, cell.sizes
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"modules must be different names, one or more, got {names}")
    if len(sizes) != len(names) or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in sizes):
        raise ValueError(f"sizes must be {len(names)} positive integers, one for each of {names}, got {sizes}")
    for field in ("inputs_to", "output_from"):
        chosen = getattr(cell, field)
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(names):
            raise ValueError(f"{field} must name some of the modules {names}, each once, got {chosen}")
    ends_known = all(len(link) == 2 and set(link) <= set(names) and link[0] != link[1] for link in cell.links)
    if not ends_known or len(set(cell.links)) < len(cell.links):
        raise ValueError(
            f"links must be different pairs (source, target) of two of the modules {names}, got {cell.links}"
        )
    if not isinstance(cell.density, (int, float)) or not 0 < cell.density <= 1:
        raise ValueError(
            f"density, the share of a link's weights that are there, must lie in (0, 1], got {cell.density}"
        )
