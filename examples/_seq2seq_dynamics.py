"""Fixed points of the steps of an encoder and a decoder."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """Fixed points of the steps of encoder and decoder, each with an input that occurs."""

    encoder: Any
    """Of the lowest forward layer, each with one embedded input held."""
    decoder: Any
    """Each with the last output and the context of one step of an answer held."""
    encoder_states: Any
    """Flat states of the encoder's layer along some inputs [B, S, d]."""
    decoder_states: Any
    """Flat states of the decoder along the answers to them [B, T, d]."""
    decoder_steps: Any
    """Step of the answer, from 1 on, whose last output and context were held for each of the decoder's points."""
    numbers: dict[str, float]


def study(settings: Any, model: Any, variables: Any, pairs: Any, answers: Any) -> Dynamics | None:
    """Fixed points from some states that are visited, at the inputs with which they are; None for a Transformer."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import drive, find_fixed_points, linearize
    from ctd_models.tasks import length_mask
    from ctd_models.tasks.sequences import END

    if settings.attention == "self":
        return None
    count = 40 if settings.quick else 100
    rng, bounds = np.random.default_rng(settings.seed), (-1.0, 1.0) if settings.cell in ("vanilla", "gru") else None
    pairs, answers = jax.tree.map(lambda leaf: leaf[:count], (pairs, answers))

    def search(F, states, inputs, lengths):
        """(linearised points, the (sequence, step) each search began at) of flat states [B, T, d] and inputs [B, T, U]."""
        places = np.argwhere(np.asarray(length_mask(lengths, states.shape[1])))
        at = tuple(places[rng.choice(len(places), min(count, len(places)), replace=False)].T)
        cells = model.encoder.cells[:1] if F is reader else model.decoder.cells
        like = tuple(cell.initialize_carry(jax.random.key(0), (len(at[0]), 1)) for cell in cells)
        candidates = unflatten(like[0] if F is reader else like, states[at])
        points = find_fixed_points(F, candidates, np.asarray(inputs)[at], bounds=bounds, explore=False)
        return (linearize(F, points) if len(points) else points), at

    reader, writer = step_function(model, variables, part="encoder"), step_function(model, variables)
    embedded = jax.jit(lambda x: model.apply(variables, x, method=lambda m, x: m.source.embed(x)))(pairs.inputs)
    rest = model.encoder.cells[0].initialize_carry(jax.random.key(0), (len(embedded), 1))
    read = drive(reader, rest, embedded)[:, 1:]
    held = jax.jit(lambda *a: model.apply(variables, *a, method=_held))(*pairs[:2], answers.outputs)
    states = flat(answers.states)
    encoder, _ = search(reader, read, embedded, pairs.input_lengths)
    decoder, at = search(writer, states, held, answers.lengths)
    numbers = {}
    for name, points in (("encoder", encoder), ("decoder", decoder)):
        numbers[f"{name}_fixed_points"] = len(points)
        lost = sum(len(which) for reason, which in points.dropped.items() if reason != "duplicate")
        numbers[f"{name}_searches_that_arrive"] = 1 - lost / points.num_candidates
        if len(points):
            numbers[f"{name}_stable_share"] = float(points.is_stable.mean())
            numbers[f"{name}_leading_eigenvalue"] = float(np.median(np.abs(points.eigenvalues).max(axis=1)))
    steps = None
    if len(decoder):
        steps = at[1][decoder.candidate_indices] + 1
        says = jax.jit(lambda h, x: model.apply(variables, h, x, method=_said))
        at_rest = says(unflatten(answers.states, decoder.states), jnp.asarray(decoder.inputs, jnp.float32))
        said = np.asarray(answers.outputs)[at][decoder.candidate_indices]
        if settings.task != "boxes":
            numbers["decoder_points_that_say_the_answer"] = float(np.mean(at_rest.argmax(-1) == said))
            numbers["decoder_points_that_end"] = float(np.mean(at_rest.argmax(-1) == END))
    return Dynamics(encoder, decoder, read[:40], states[:40], steps, numbers)


def flat(states: Any) -> Any:
    """States as vectors: leaves side by side along the last axis."""
    import jax
    import numpy as np

    return np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(states)], axis=-1)


def unflatten(like: Any, states: Any) -> Any:
    """Vectors [n, d] as states of the form of `like`."""
    import jax
    import numpy as np

    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.shape[-1] for leaf in leaves])[:-1]
    return jax.tree.unflatten(structure, [np.asarray(part, np.float32) for part in np.split(states, ends, axis=-1)])


def _held(model: Any, inputs: Any, lengths: Any, outputs: Any) -> Any:
    """What the decoder is given at each step of its answer: the embedded last output, and the context [B, T, E + H]."""
    import jax.numpy as jnp

    last = jnp.concatenate([model.start(len(inputs))[:, None], outputs[:, :-1]], axis=1)
    held, weights = model.target.embed(last), model(inputs, lengths, outputs).attention
    if weights is None:
        return held
    return jnp.concatenate(
        [held, jnp.einsum("bts,bsh->bth", weights, model.encode(inputs, lengths)[0].values)], axis=-1
    )


def _said(model: Any, states: Any, held: Any) -> Any:
    """What is read out of states [n] of the decoder with these inputs held."""
    import jax.numpy as jnp

    features, context = model.step(states, held)[1], held[..., model.target.embedded_size :]
    return model.target.read_out(jnp.concatenate([features, context], axis=-1))
