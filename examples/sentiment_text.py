"""A recurrent network reads real review sentences, and is analysed as that of the toy language is.

Cross-validates the network and logistic regressions on word counts, then takes the network of the first fold: the slow
points where no word comes, what each word does there, and what "not" and "very" do to the words after them.
"""

import dataclasses
from pathlib import Path

import tyro


@dataclasses.dataclass
class Settings:
    data: str = "uci_sentiment"
    """A file of lines "text, tab, 0 or 1", or a folder of such files *.txt and *.tsv; looked for in CTD_DATA as well."""
    encoding: str = "utf-8"
    """Of the files."""
    out: Path = Path("results/sentiment_text")
    """Folder for results, figures and checkpoints; a run that was interrupted continues."""
    num_folds: int = 5
    """Folds of the cross-validation."""
    num_steps: int = 600
    """Training steps of the network in each fold."""
    hidden_size: int = 32
    """Units of the GRU."""
    embedding_size: int = 32
    """Features of an embedded word."""
    word_dropout: float = 0.4
    """Probability that a word is read as unknown in training."""
    input_dropout: float = 0.7
    """Probability that a feature of a word is dropped in training."""
    output_dropout: float = 0.5
    """Probability that a unit is hidden from the readout in training."""
    learning_rate: float = 3e-3
    """Of Adam at the start; it falls to 0 as a cosine."""
    batch_size: int = 64
    """Sentences in a batch."""
    max_words: int = 40
    """Words of a sentence that are read; longer ones lose their ends."""
    modifiers: tuple[str, ...] = ("not", "very")
    """Words whose effect on the words after them is looked at."""
    num_probes: int = 10
    """Words of each sign that are looked at after the modifiers: the strongest of those that occur ten times."""
    tolerance: float = 1e-5
    """Largest speed q of a slow point."""
    num_candidates: int = 500
    """States to search from."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer folds and candidates."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _sentiment_scores as compare
    import _sentiment_text as text
    import _sentiment_text_figures as figures
    import jax
    import numpy as np

    from ctd_models import load_checkpoint
    from ctd_models.data import Vocabulary

    if settings.quick:
        settings = common.shortened(settings, num_folds=2, num_steps=300, num_candidates=100)
    given = read(settings)
    common.remember(settings)
    print(given)

    rng = np.random.default_rng(settings.seed)
    kinds = [rng.permutation(np.flatnonzero(given.labels == label)) for label in (0, 1)]
    parts = [np.array_split(kind, settings.num_folds) for kind in kinds]
    folds = [np.concatenate(part) for part in zip(*parts, strict=True)]
    folds = [rng.permutation(fold) for fold in folds]  # with as much of either label in each
    keys = jax.random.split(jax.random.key(settings.seed), settings.num_folds)
    scores = {"gru": [], "bag_of_words": [], "modified_bag_of_words": []}
    for fold, test in enumerate(folds):
        train = np.concatenate([other for i, other in enumerate(folds) if i != fold])
        vocabulary = Vocabulary.of(given.texts[i] for i in train)
        tokens = vocabulary.encode(given.texts, settings.max_words)
        folder = settings.out / f"checkpoints_fold{fold}"
        text.fit(settings, vocabulary, tokens[train], given.labels[train], keys[fold], folder)
        model, variables = load_checkpoint(folder)
        odds = text.log_odds(model, variables, tokens[test])
        scores["gru"].append(np.mean((odds > 0) == given.labels[test]))
        for name, value in compare.bags(settings, vocabulary, tokens, given.labels, train, test).items():
            scores[name].append(value)
        print(f"fold {fold}:", ", ".join(f"{name} {values[-1]:.3f}" for name, values in scores.items()))

    # The network of the first fold
    vocabulary, test = Vocabulary(load_checkpoint(settings.out / "checkpoints_fold0")[0].words), folds[0]
    tokens = vocabulary.encode(given.texts, settings.max_words)
    story = text.analyse(settings, vocabulary, tokens, given.labels, test)
    print(story.points, story.effects, sep="\n")
    results = compare.summary(scores) | story.numbers
    figures.draw(settings.out, scores, story)
    common.write_results(settings.out, results)
    return results


def read(settings: Settings):
    """The sentences, after a check that they are enough for what is asked.

    Raises:
        SystemExit: they are not, or cannot be read.
    """
    import _common as common
    import numpy as np

    from ctd_models.data import load_labelled_text, tokenize

    places = (Path(settings.data), common.data_folder() / settings.data)
    if not any(place.exists() for place in places):
        raise SystemExit(f"there is no {' or '.join(map(str, places))} (set CTD_DATA to the folder of data)")
    try:
        given = load_labelled_text(next(place for place in places if place.exists()), encoding=settings.encoding)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    fewest, folds = int(min(given.labels.sum(), (1 - given.labels).sum())), settings.num_folds
    if not 2 <= folds <= fewest // 10:
        raise SystemExit(f"--num-folds {folds}: at least 2, with ten sentences of either label each; one has {fewest}")
    known = {word for text in given.texts for word in tokenize(text)}
    if missing := [word for word in settings.modifiers if word not in known]:
        raise SystemExit(f"the sentences do not hold {', '.join(missing)} (in lower case): pass other --modifiers")
    if settings.num_probes < 1 or len(np.unique(given.texts)) < 20:
        raise SystemExit("--num-probes must be at least 1, and there must be twenty different sentences")
    return given


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
