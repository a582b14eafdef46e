"""The baselines of the examples of sentiment, and the comparison over folds."""

from typing import Any

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
REACH = 4  # words after a modifier that count as under it


def bags(settings: Any, vocabulary: Any, tokens: Any, labels: Any, train: Any, test: Any) -> dict[str, float]:
    """Accuracy of logistic regressions on counts of words, and of words with those under a modifier as their own. The
    penalty is chosen on a tenth of the training sentences, then all of them are fitted."""
    import numpy as np

    from ctd_models.analysis import fit_logistic, word_features

    known = [vocabulary.number(word) for word in settings.modifiers if word in vocabulary]
    cut, scores = len(train) // 10, {}
    for name, modifiers in (("bag_of_words", {}), ("modified_bag_of_words", {n: np.ones(REACH) for n in known})):
        features = word_features(tokens, len(vocabulary), modifiers, padding=0)

        def accuracy(fitted, measured, penalty, features=features):
            model = fit_logistic(features[fitted], labels[fitted], penalty=penalty)
            return float(np.mean((model.log_odds(features[measured]) > 0) == labels[measured]))

        best = max(PENALTIES, key=lambda penalty: accuracy(train[cut:], train[:cut], penalty))
        scores[name] = accuracy(train, test, best)
    return scores


def summary(scores: dict[str, list[float]]) -> dict[str, float]:
    """Mean and deviation over folds, and the difference of the network and the bag of words, fold by fold."""
    import numpy as np

    results = {}
    for name, values in scores.items():
        results |= {f"{name}_accuracy": float(np.mean(values)), f"{name}_accuracy_sd": float(np.std(values, ddof=1))}
    differences = np.subtract(scores["gru"], scores["bag_of_words"])
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    return results | {"paired_difference": float(differences.mean()), "paired_standard_error": error}


def toy_baselines(task: Any, reviews: Any, mse: float, effects: Any) -> dict[str, float]:
    """Errors of linear readers on half of the reviews, fitted to the other half: bag of words, and with words under each
    modifier as words of their own, where a modifier reaches as far as in the network."""
    import numpy as np

    from ctd_models.analysis import word_features

    words, targets = (
        np.asarray(reviews.inputs[:4_000]).argmax(axis=-1),
        np.asarray(reviews.targets[:4_000, :, 0], float),
    )
    profiles = {task.texts.index(n): f - 1 for n, f in zip(effects.modifiers, effects.factors, strict=True)}
    results, (train, test) = {}, (slice(0, 2_000), slice(2_000, 4_000))
    for name, modifiers in (("bag_of_words_mse", None), ("augmented_bag_of_words_mse", profiles)):
        parts = [
            word_features(words[part], len(task.texts), modifiers, running=True).toarray() for part in (train, test)
        ]
        weights, *_ = np.linalg.lstsq(parts[0], targets[train].reshape(-1), rcond=None)
        results[name] = float(np.mean((parts[1] @ weights - targets[test].reshape(-1)) ** 2))
    plain, augmented = results.values()
    return results | {"augmentation_recovers_fraction": (plain - augmented) / (plain - mse)}
