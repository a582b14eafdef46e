"""Models of sequences against their equations, against all possible answers, and against themselves without padding."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ctd_models import GRUCell
from ctd_models.analysis import find_fixed_points
from ctd_models.models import step_function
from ctd_models.models.seq2seq import (
    AdditiveAttention,
    BitTokens,
    DotAttention,
    GeneralAttention,
    RecurrentDecoder,
    RecurrentEncoder,
    Seq2Seq,
    Signals,
    Tokens,
    TransformerSeq2Seq,
    beam_search,
    free_run,
    greedy,
)
from ctd_models.tasks import CopySequence, length_mask

KEY = jax.random.key(0)
TASK = CopySequence(num_symbols=3, longest=4)
PAIRS = TASK.sample(KEY, 5)
SIZE = 8
CODE = Tokens(6)


def recurrent(attention=None, encoder=None, decoder=None, code=None, **options):
    encoder = encoder or RecurrentEncoder((GRUCell(SIZE),))
    decoder = decoder or RecurrentDecoder((GRUCell(SIZE),))
    codes = [(code or (lambda: Tokens(6, SIZE)))() for _ in range(2)]
    return Seq2Seq(*codes, encoder, decoder, attention, **options)


def deep():
    """Wu et al.'s stack: a layer both ways, residual layers above it; cells of different kinds."""
    encoder = RecurrentEncoder(
        (GRUCell(SIZE), nn.OptimizedLSTMCell(2 * SIZE), GRUCell(2 * SIZE)), num_bidirectional=1, residual=True
    )
    decoder = RecurrentDecoder((nn.OptimizedLSTMCell(SIZE), GRUCell(SIZE), GRUCell(SIZE)), residual=True)
    return recurrent(AdditiveAttention(SIZE), encoder, decoder)


MODELS = {
    "none": recurrent,
    "additive": lambda: recurrent(AdditiveAttention(SIZE)),
    "dot": lambda: recurrent(DotAttention()),
    "general": lambda: recurrent(GeneralAttention(SIZE)),
    "deep": deep,
    "self": lambda: TransformerSeq2Seq(Tokens(6, SIZE), Tokens(6, SIZE), features=16, num_heads=2),
}


class Made(NamedTuple):
    model: nn.Module
    variables: dict
    run: Callable
    """`model.apply`, compiled."""
    encode: Callable
    """Compiled, with room for 5 outputs."""


@pytest.fixture(scope="module")
def made(random_variables):
    """Name → Made, made when first asked for; weights are large, so that answers are definite."""
    models = {}

    def get(name):
        if name not in models:
            model = MODELS[name]()
            variables = random_variables(model, *PAIRS[:3], scale=0.8)
            encode = jax.jit(lambda *given: model.apply(*given, 5, method="encode"))
            models[name] = Made(model, variables, jax.jit(model.apply), encode)
        return models[name]

    return get


NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in ("dot", "deep"))) for name in MODELS]


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name, made):
    _, variables, run, _ = made(name)
    longer = CopySequence(num_symbols=3, longest=4, size=7)
    symbols = jnp.pad(PAIRS.inputs - 3, ((0, 0), (0, 3)), constant_values=1)
    padded = longer.pairs(symbols, PAIRS.input_lengths)
    # what stands behind the end must not matter, whatever it is
    behind = jnp.where(jnp.arange(7) < padded.input_lengths[:, None], padded.inputs, 4)
    few, many, other = (run(variables, *given[:3]) for given in (PAIRS, padded, padded._replace(inputs=behind)))
    counts = np.asarray(length_mask(padded.target_lengths, 8))
    np.testing.assert_array_equal(many.outputs[counts], other.outputs[counts])
    assert {4} < set(PAIRS.input_lengths.tolist())  # of which some fill their 4 places, and so are not padded
    np.testing.assert_allclose(many.outputs[:, :5][counts[:, :5]], few.outputs[counts[:, :5]], rtol=1e-5, atol=1e-5)
    if few.attention is not None:
        np.testing.assert_allclose(many.attention[:, :5, :4][counts[:, :5]], few.attention[counts[:, :5]], atol=1e-5)
        assert not np.asarray(many.attention)[counts][:, 4:].any()


@pytest.mark.parametrize("name", NAMES)
def test_going_on_step_by_step_is_the_full_pass(name, made):
    model, variables, run, encode = made(name)
    full = run(variables, *PAIRS[:3])
    memory, state = encode(variables, *PAIRS[:2])
    advance = jax.jit(lambda state, last: model.apply(variables, memory, state, last, method="advance"))
    last = jnp.full(5, 1)
    for t in range(5):
        state, output, weights = advance(state, last)
        np.testing.assert_allclose(output, full.outputs[:, t], rtol=2e-5, atol=2e-5)
        if weights is not None:
            np.testing.assert_allclose(weights, full.attention[:, t], atol=1e-5)
        last = PAIRS.targets[:, t]


@pytest.mark.parametrize("name", ["additive", "self"])
def test_a_beam_of_all_answers_finds_the_best_one(name, made):
    model, variables, run, _ = made(name)
    said = [[*s, 2] for n in range(3) for s in itertools.product((3, 4, 5), repeat=n)]
    said += [list(s) for s in itertools.product((3, 4, 5), repeat=3)]
    lengths = np.array([len(s) for s in said])
    targets = jnp.array([s + [0] * (3 - len(s)) for s in said])
    every = (jnp.repeat(PAIRS.inputs, len(said), axis=0), jnp.repeat(PAIRS.input_lengths, len(said), axis=0))
    logs = np.asarray(jax.nn.log_softmax(run(variables, *every, jnp.tile(targets, (5, 1))).outputs))
    each = np.take_along_axis(logs.reshape(5, len(said), 3, 6), np.asarray(targets)[None, ..., None], axis=3)[..., 0]
    scores = (each * (np.arange(3) < lengths[:, None])).sum(axis=2)
    for length_penalty in (0.0, 1.0):
        best = (scores / ((5 + lengths) / 6) ** length_penalty).argmax(axis=1)
        options = {"max_length": 3, "beam_size": 4, "length_penalty": length_penalty}
        found = beam_search(model, variables, *PAIRS[:2], **options)
        np.testing.assert_array_equal(found.tokens[:, 0], targets[best])
        np.testing.assert_allclose(found.log_probabilities[:, 0], scores[np.arange(5), best], rtol=1e-4)
        np.testing.assert_array_equal(found.lengths[:, 0], lengths[best])


def test_a_beam_of_one_is_greedy_and_stops_early(made):
    model, variables, run, _ = made("additive")
    found = greedy(model, variables, *PAIRS[:2], max_length=6, return_attention=True)
    beam = beam_search(model, variables, *PAIRS[:2], max_length=6, beam_size=1)
    np.testing.assert_array_equal(found.tokens, beam.tokens[:, 0])
    np.testing.assert_allclose(found.log_probabilities, beam.log_probabilities[:, 0], rtol=1e-5)
    answers = run(variables, *PAIRS[:2], found.tokens)
    for i, length in enumerate(found.lengths):
        assert (found.tokens[i, length:] == 0).all()
        np.testing.assert_array_equal(found.tokens[i, :length], answers.outputs[i, :length].argmax(axis=-1))
        np.testing.assert_allclose(found.attention[i, :length], answers.attention[i, :length], atol=1e-5)
    params = variables["params"]
    bias = params["target"]["readout"]["bias"].at[2].add(1e3)  # says nothing but the end
    silent = {
        "params": {**params, "target": {**params["target"], "readout": {**params["target"]["readout"], "bias": bias}}}
    }
    found = greedy(model, silent, *PAIRS[:2], max_length=6)
    assert found.num_steps == 1 and (found.lengths == 1).all() and (found.tokens[:, 0] == 2).all()
    assert beam_search(model, silent, *PAIRS[:2], max_length=6, beam_size=1).num_steps == 1


def test_without_attention_there_are_no_weights(made):
    model, variables, _, _ = made("none")
    assert greedy(model, variables, *PAIRS[:2], max_length=3, return_attention=True).attention is None


def test_searches_are_compiled_once_for_all_lengths(made, compilations):
    model, variables, _, _ = made("additive")
    others = [CopySequence(num_symbols=3, shortest=n, longest=n, size=4).sample(KEY, 5) for n in (1, 2, 4)]
    for search in (greedy, beam_search):
        search(model, variables, *others[0][:2], max_length=5)
        with compilations:
            for pairs in others:
                search(model, variables, *pairs[:2], max_length=5)
        assert compilations.count == 0


def test_attention_is_what_its_equation_says():
    rng = np.random.default_rng(0)
    query, values = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 8), (2, 5, 8)))
    mask = jnp.arange(5) < jnp.array([[5], [3]])

    def both(module, query, values, mask):
        return module(query, module.keys(values), values, mask)

    for attention in (DotAttention(), GeneralAttention(8), AdditiveAttention(7)):
        variables = attention.init(KEY, query, values, mask, method=both)
        context, weights = attention.apply(variables, query, values, mask, method=both)
        p = variables.get("params", {})
        if isinstance(attention, DotAttention):
            scores = np.einsum("bn,bsn->bs", query, values) / np.sqrt(8)
        elif isinstance(attention, GeneralAttention):
            scores = np.einsum("bn,bsh,hn->bs", query, values, p["of_key"]["kernel"])
        else:
            of_key = values @ p["of_key"]["kernel"] + p["of_key"]["bias"]
            hidden = np.tanh((query @ p["of_query"]["kernel"])[:, None] + of_key)
            scores = hidden @ p["v"]
        expected = np.where(mask, np.exp(scores), 0.0)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(weights, expected, rtol=1e-4)
        np.testing.assert_allclose(context, np.einsum("bs,bsh->bh", expected, values), rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="queries have 8 and encoded inputs 6"):
        DotAttention().apply({}, query, values[..., :6], values[..., :6], mask)
    for wrong in (mask[:, :4], mask[0], mask.astype(float)):
        with pytest.raises(ValueError, match=r"a mask \[\*batch, S\] of bools"):
            DotAttention().apply({}, query, values, values, wrong)


def test_bits_are_independent():
    code = BitTokens(3)
    features = jax.random.normal(KEY, (4, 5))
    variables = code.init(KEY, features, method="read_out")
    probabilities = np.asarray(jax.nn.softmax(code.apply(variables, features, method="read_out")))
    out = np.asarray(features @ variables["params"]["readout"]["kernel"] + variables["params"]["readout"]["bias"])
    bits, end = 1 / (1 + np.exp(-out[:, :3])), 1 / (1 + np.exp(-out[:, 3]))
    np.testing.assert_allclose(probabilities[:, 2], end, rtol=1e-5)
    assert not probabilities[:, :2].any()
    for symbol in range(8):
        on = np.array([symbol >> b & 1 for b in range(3)])
        expected = (1 - end) * np.prod(np.where(on, bits, 1 - bits), axis=1)
        np.testing.assert_allclose(probabilities[:, 3 + symbol], expected, rtol=1e-5)
    embedded = np.asarray(code.apply({}, jnp.array([0, 1, 2, 3, 3 + 5]), method="embed"))
    np.testing.assert_array_equal(
        embedded, [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0] * 5, [1, 0, 1, 0, 0]]
    )


def test_scheduled_sampling_feeds_a_network_its_own_outputs(random_variables):
    model = recurrent(AdditiveAttention(SIZE), code=lambda: Signals(1))
    inputs = jax.random.normal(KEY, (3, 6, 1))
    lengths = jnp.array([6, 4, 5])
    variables = random_variables(model, inputs, lengths, inputs)
    run = jax.jit(
        lambda rate, targets: model.apply(variables, inputs, lengths, targets, rate, rngs={"sample": KEY}).outputs
    )
    taught = jax.jit(lambda targets: model.apply(variables, inputs, lengths, targets))
    own = free_run(model, variables, inputs, lengths, num_steps=6)
    np.testing.assert_allclose(run(1.0, inputs), own.outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run(0.0, inputs), taught(inputs).outputs, rtol=1e-5, atol=1e-6)
    assert not np.allclose(own.outputs, taught(inputs).outputs, atol=1e-3)
    # a free run is what it would be if it were taught its own outputs
    again = taught(own.outputs)
    np.testing.assert_allclose(again.outputs, own.outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again.attention, own.attention, atol=1e-6)


def test_steps_are_dynamical_systems(made):
    model, variables, _, encode = made("additive")
    memory, state = encode(variables, *PAIRS[:2])
    context = np.asarray(memory.values[0, 0])
    embedded = np.asarray(model.apply(variables, jnp.array(3), method=lambda m, x: m.target.embed(x)))
    F = step_function(model, variables)  # the decoder, given a token and a context
    points = find_fixed_points(F, jax.tree.map(np.asarray, state), np.concatenate([embedded, context]), explore=False)
    (found,) = points.unravel(points.states)
    (after,), _ = model.apply(
        variables,
        (jnp.asarray(found, jnp.float32),),
        jnp.tile(np.concatenate([embedded, context]), (len(found), 1)),
        method="step",
    )
    np.testing.assert_allclose(after, found, atol=1e-5)
    reader = step_function(model, variables, part="encoder")
    points = find_fixed_points(reader, np.asarray(memory.values[:, 0]), embedded, explore=False)
    assert len(points) >= 1 and points.speeds.max() < 1e-15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"inputs": PAIRS.inputs.at[1, 0].set(6)},
            r"inputs must lie in 0 … 5 \(the vocabulary\), got 6 at index \(1, 0\)",
        ),
        ({"inputs": PAIRS.inputs.at[1, 0].set(-1)}, "got -1 at index"),
        ({"inputs": PAIRS.inputs[:, :0]}, "none empty"),
        ({"inputs": PAIRS.inputs.astype(float)}, "of tokens"),
        ({"lengths": PAIRS.input_lengths.at[2].set(0)}, r"input_lengths must lie in 1 … 4 .*got 0 at index \(2,\)"),
        ({"lengths": PAIRS.input_lengths.at[2].set(5)}, "got 5 at index"),
        ({"lengths": PAIRS.input_lengths[:3]}, r"expected input_lengths \[5\]"),
        ({"targets": PAIRS.targets[:3]}, "there are 5 inputs, but 3 targets"),
        ({"targets": PAIRS.targets.at[0, 0].set(99)}, "targets must lie in 0 … 5"),
    ],
)
@pytest.mark.parametrize("name", ["additive", "self"])
def test_bad_sequences(change, message, name, made):
    model, variables, _, _ = made(name)
    given = {"inputs": PAIRS.inputs, "lengths": PAIRS.input_lengths, "targets": PAIRS.targets} | change
    with pytest.raises(ValueError, match=message):
        model.apply(variables, *given.values())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: RecurrentEncoder(()), "one recurrent cell a layer"),
        (lambda: RecurrentEncoder((nn.Dense(3),)), "RNNCellBase"),
        (lambda: RecurrentEncoder((GRUCell(3),), num_bidirectional=2), "num_bidirectional must lie in 0 … 1"),
        (lambda: RecurrentDecoder((GRUCell(3),), dropout=1.0), "dropout is a probability"),
        (lambda: TransformerSeq2Seq(Tokens(6), Tokens(6), features=15), "even and a multiple"),
        (lambda: TransformerSeq2Seq(Tokens(6), Tokens(6), features=16, num_heads=3), "multiple of 3 heads"),
        (lambda: Tokens(3), "vocabulary_size ≥ 4"),
        (lambda: BitTokens(13), "num_bits must lie in 1 … 12"),
        (
            lambda: greedy(recurrent(code=lambda: Signals(1)), {}, PAIRS[0], PAIRS[1], max_length=3),
            "answers with Signals",
        ),
        (lambda: free_run(recurrent(), {}, PAIRS[0], PAIRS[1], num_steps=3), "answers with Tokens: use greedy"),
        (lambda: greedy(recurrent(), {}, PAIRS[0], PAIRS[1], max_length=0), "max_length must be"),
        (
            lambda: beam_search(recurrent(), {"params": {}}, PAIRS[0], PAIRS[1], max_length=3, beam_size=5),
            "beam_size must be a whole number in 1 … 4",
        ),
        (
            lambda: beam_search(recurrent(), {"params": {}}, PAIRS[0], PAIRS[1], max_length=3, beam_size=2.5),
            "beam_size must be a whole number",
        ),
        (
            lambda: beam_search(recurrent(), {"params": {}}, PAIRS[0], PAIRS[1], max_length=3, length_penalty=-1.0),
            "length_penalty cannot be negative",
        ),
        (lambda: greedy(recurrent(), {"source": {}}, PAIRS[0], PAIRS[1], max_length=3), "Flax's whole dictionary"),
        (lambda: recurrent("dot"), "attention"),
        (lambda: recurrent(DotAttention), "attention"),
        (lambda: AdditiveAttention(0), "features must be at least 1"),
        (lambda: Seq2Seq(CODE, CODE, RecurrentEncoder((GRUCell(3),)), RecurrentDecoder((GRUCell(3),))), "a code each"),
        (lambda: TransformerSeq2Seq(CODE, CODE), "a code each"),
        (lambda: TransformerSeq2Seq(CODE, nn.Dense(3)), "target must be a code"),
    ],
)
def test_bad_models(act, message):
    with pytest.raises((ValueError, TypeError), match=message):
        act()


def test_parts_of_stacks_step_and_others_say_that_they_do_not():
    cell = GRUCell(SIZE)
    encoder = RecurrentEncoder((cell, cell), num_bidirectional=2)  # one object, four layers
    model = recurrent(AdditiveAttention(SIZE), encoder)
    shapes = jax.eval_shape(model.init, KEY, *PAIRS[:3])
    names = {f"{way}_cells_{i}" for way in ("forward", "backward") for i in (0, 1)}
    assert set(shapes["params"]["encoder"]) == names
    variables = jax.tree.map(jnp.zeros_like, shapes)
    F = step_function(model, variables, part="encoder.backward_cells.1")
    assert F(jnp.ones(SIZE), jnp.ones(2 * SIZE)).shape == (SIZE,)
    for part in ("attention", "encoder.layers", "encoder.backward_cells"):
        with pytest.raises(AttributeError, match="no step"):
            step_function(model, variables, part=part)
    with pytest.raises(AttributeError, match="no part '2'"):
        step_function(model, variables, part="encoder.backward_cells.2")


def test_a_deterministic_model_drops_nothing():
    cells = (GRUCell(SIZE), GRUCell(SIZE))
    model = recurrent(None, RecurrentEncoder(cells, dropout=0.5), RecurrentDecoder(cells, dropout=0.5))
    assert not (model.encoder.deterministic or model.decoder.deterministic)
    quiet = model.clone(deterministic=True)
    assert quiet.encoder.deterministic and quiet.decoder.deterministic
    shapes = jax.eval_shape(model.init, {"params": KEY, "dropout": KEY}, *PAIRS[:3])
    run = jax.eval_shape(quiet.apply, shapes, *PAIRS[:3])  # asks for no random numbers
    assert run.outputs.shape == (5, 5, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"targets": jnp.pad(PAIRS.targets, ((0, 0), (1, 0)), constant_values=1)},
            "answer 0 of length . has . at place",
        ),
        ({"targets": jnp.where(PAIRS.targets == 2, 0, PAIRS.targets)}, "the end marker 2 at their last place"),
        ({"target_lengths": PAIRS.target_lengths - 1}, "the end marker 2 at their last place"),
        ({"inputs": PAIRS.inputs.at[0, 0].set(0)}, r"input 0 has . places, but padding \(0\) at place 0"),
        ({"inputs": PAIRS.inputs.tolist()}, "expected inputs to be an array, got list"),
    ],
)
def test_markers_stand_where_they_belong(change, message):
    with pytest.raises(ValueError, match=message):
        recurrent().check(**(PAIRS._asdict() | change))
