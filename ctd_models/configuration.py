"""What a model is made of, as JSON and back.

A Flax module is a dataclass: its class and its fields say everything about it except its arrays. `to_config` writes them
as plain JSON values and `from_config` builds an equal module, so a checkpoint can be opened without being told how it
was made. No code travels: only classes that are already imported are rebuilt.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

_FUNCTIONS = {
    name: getattr(nn, name)
    for name in ("relu", "elu", "gelu", "leaky_relu", "sigmoid", "silu", "soft_sign", "softplus", "softmax", "tanh")
}


class Configurable:
    """Base of frozen dataclasses that may be fields of a model, such as initialisers and priors.

    Subclassing it is what registers them for `from_config`.
    """


def _subclasses(cls: type) -> Iterator[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def class_name(cls: type) -> str:
    """`package.module:Class`, the name under which a class is written."""
    return f"{cls.__module__}:{cls.__qualname__}"


def find_class(name: str) -> type:
    """The imported `nn.Module` or `Configurable` class that was written as `name`.

    A class defined in a script or a notebook lives in `__main__` when it is written and may live in a proper module when
    it is read, or the reverse: such a class is found by its own name. Of a class that was defined again, the latest
    definition counts.

    Raises:
        ValueError: no imported class has this name.
    """
    module, _, qualname = name.partition(":")
    if module.split(".")[0] == __package__:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)  # our own classes need no import by the user
    registered = {class_name(cls): cls for root in (nn.Module, Configurable) for cls in _subclasses(root)}
    if name in registered:
        return registered[name]
    same_name = [cls for other, cls in registered.items() if other.partition(":")[2] == qualname]
    libraries = (__package__, "flax")  # their classes never stand in for one of the user's
    moved = [
        cls
        for cls in same_name
        if "__main__" in (module, cls.__module__) and cls.__module__.split(".")[0] not in libraries
    ]
    if len(moved) == 1:
        return moved[0]
    hint = f"; classes of that name exist in {[cls.__module__ for cls in same_name]}" if same_name else ""
    raise ValueError(
        f"class {qualname!r} of module {module!r} is not registered: import the module that defines it "
        f"(a class is registered by being imported) before loading{hint}"
    )


def _fields(value: Any) -> Iterator[dataclasses.Field]:
    return (f for f in dataclasses.fields(value) if f.init and f.name not in ("parent", "name"))


def _is_own_class(value: Any) -> bool:
    return isinstance(value, (nn.Module, Configurable)) and dataclasses.is_dataclass(value)


def to_config(value: Any, path: str = "model") -> Any:
    """Plain JSON values that describe a module (or any value that may be a field of one).

    Raises:
        TypeError: a field holds something that JSON cannot hold, such as a lambda; its path is named.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not np.isfinite(value):
            raise TypeError(f"{path} is {value}, which JSON cannot hold")
        return value
    if isinstance(value, np.generic):
        return to_config(value.item(), path)
    if isinstance(value, (list, tuple)):
        return [to_config(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {"mapping": {str(key): to_config(item, f"{path}[{key!r}]") for key, item in value.items()}}
    if _is_own_class(value):
        fields = {}
        for field in _fields(value):
            item = getattr(value, field.name)
            if callable(item) and not _is_own_class(item) and item is field.default:
                continue  # Flax's own modules have functions as defaults; the default is rebuilt by leaving it out
            fields[field.name] = to_config(item, f"{path}.{field.name}")
        return {"class": class_name(type(value)), "fields": fields}
    for name, function in _FUNCTIONS.items():
        if value is function:
            return {"function": name}
    try:
        return {"dtype": np.dtype(value).name}
    except TypeError:
        pass
    raise TypeError(
        f"{path} holds {value!r}, which cannot be written to a checkpoint: use numbers, strings, modules, dataclasses "
        f"that derive from ctd_models.configuration.Configurable, or one of the activations {sorted(_FUNCTIONS)}"
    )


def from_config(config: Any) -> Any:
    """The inverse of `to_config`: an equal module, built from classes that are already imported.

    Raises:
        ValueError: a class is not registered, or does not have the fields that were written.
    """
    if isinstance(config, list):
        return tuple(from_config(item) for item in config)
    if not isinstance(config, dict):
        return config
    if "mapping" in config:
        return {key: from_config(item) for key, item in config["mapping"].items()}
    if "function" in config:
        return _FUNCTIONS[config["function"]]
    if "dtype" in config:
        return getattr(jnp, config["dtype"])
    cls = find_class(config["class"])
    fields = {name: from_config(item) for name, item in config["fields"].items()}
    try:
        return cls(**fields)
    except TypeError as error:
        known = sorted(field.name for field in _fields(cls))
        raise ValueError(f"{cls.__name__} has the fields {known}, the checkpoint holds {sorted(fields)}") from error


def deterministic(module: nn.Module) -> nn.Module:
    """A copy of `module` in which every field `deterministic=False`, of itself and of modules in its fields, is True.

    Dropout and noise are off in it, so that it needs no random numbers.
    """
    updates = {}
    for field in _fields(module):
        value = getattr(module, field.name)
        if field.name == "deterministic" and value is False:
            updates[field.name] = True
        elif isinstance(value, nn.Module):
            updates[field.name] = deterministic(value)
        elif isinstance(value, (list, tuple)):
            updates[field.name] = tuple(deterministic(v) if isinstance(v, nn.Module) else v for v in value)
        elif isinstance(value, Mapping):
            updates[field.name] = {k: deterministic(v) if isinstance(v, nn.Module) else v for k, v in value.items()}
    return module.clone(**updates)
