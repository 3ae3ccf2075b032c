"""One argument wrong at a time, for every public function: refused by its name, or accepted for a reason given here."""

import collections
import contextlib
import inspect
import io
import linecache
import re
import traceback
import warnings
from pathlib import Path

import calls
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor

import labkit
from labkit.training import pretrained

LABKIT = str(Path(labkit.__file__).parent)
OBSCURE = 0.03  # of all calls, at most, may end in an error of torch, numpy or Python
SHAPES = "no rows|other rows|one axis (more|less)"
ANY_SHAPE = (
    r"base\.(drop_condition y|randn_like x)|data\.(to_float images|to_uint8 x)|measure\.(Judge\.read|clipped) x|"
    r"flow\.(GaussianMixture\.(log_prob|score) x|(adaptive|simulate) (x|ts)|log_likelihood x)|"
    r"flow\.\w+\.(beta_d_beta t|at_share share|step_at t)|"
    r"flow\.draw_times z|nn\.(Attention\.split x|\w+\.features x|patchify x|unpatchify tokens)|measure\.sliced_w2 [xy]|"
    r"show\.(guided_cloud x|reach clouds|routes way)"
)
FREE = r"base\.null_of model|course\.accepted (number|otherwise)|measure\.kinds_of_guidance weak|measure\.sweep y"
ACCEPTED = {  # "function argument: what is wrong" -> why it may be
    rf"({FREE}): .*": "held, and looked at where it is used",
    r"base\.null_of given: several": "a null may be a tensor",
    r"measure\.draw null: (several|negative|a fraction)": "with a second, bad model no null is asked",
    rf"({ANY_SHAPE}): ({SHAPES})": "every number of rows is legal, or any shape is: the result is shaped alike",
    r"((base|data|flow|nn)\..*|measure\.clipped x): NaN": (
        "comes out as NaN, and is refused where samples are measured, drawn or trained with"
    ),
    r"flow\.Table betas: other rows": "a table of another length",
    r"base\.each ys: .*": "conditions of any kind",
    r"base\.drop_condition y: (negative|large)": "the network that is told them looks at the values of labels",
    r"flow\.conditional y: None": "a model that is told nothing",
    r"flow\.plain [xt]: .*": "a rule may ignore where and when it is asked, and this one does",
    r".*(\bw|eta|seed|first|at|spacing|amount): negative": "any number is legal",
    r".*: unknown": "any text is legal",
    r"(data\.draws sample|base\.each function|measure\.sweep (sample|measure)|nn\.flop_count network): returning .*": (
        "what is made is handed on as it is"
    ),
    r"flow\.classifier_guided model: returning one number": "of the model's value only the shape is asked",
    r"measure\.draw decode: returning one number": "a decoder makes what it likes",
    r"(data\.(to_float|batches)|nn\.patchify) \w+: (whole numbers|decimals|complex|negative|large)": (
        "data of any kind are moved, and looked at by `fit`"
    ),
    r"data\.labelled images: whole numbers": "a value_range was given",
    r"flow\.GaussianMixture stds_or_covs: .*": "numbers of any kind become decimal",
    r"show\.(cloud|guided_cloud) \w+: (large|negative)": "classes beyond the colours take them in turn",
    r"show\.(image_grid (row|column)_labels|triptych names): .*": "labels are what is written",
}


class Thing:
    """A class handed over where an object is wanted."""


def wrong_values(value):
    """What may stand wrongly in the place of a valid value: (word, wrong value)."""
    if isinstance(value, Tensor):
        yield from {"None": None, "a number": 1.0, "a string": "abc", "a list": ["a"], "a class": Thing}.items()
        yield "one axis less", value[0]
        yield "one axis more", value[None]
        yield "no rows", value[:0]
        yield "complex", value + 0j
        yield "an array of strings", np.array(["a"] * len(value))
        if value.is_floating_point():
            yield "whole numbers", torch.ones_like(value, dtype=torch.int64)
            yield "NaN", torch.full_like(value, torch.nan)
        else:
            yield "decimals", value.double() + 0.5
            yield "negative", value - 100 if value.dtype == torch.int64 else value.double()
            yield "large", value + 100 if value.dtype == torch.int64 else value.to(torch.complex64)
        yield "other rows", value[:-1]
    elif isinstance(value, bool):
        yield from {"a string": "abc", "a list": [1], "a fraction": 2.5}.items()
    elif isinstance(value, int | float):
        yield from {"None": None, "a string": "3", "a list": [1.0], "NaN": float("nan"), "infinite": float("inf"),
                    "complex": 1j, "several": torch.ones(3), "a class": Thing, "negative": -7}.items()  # fmt: skip
        if isinstance(value, int):
            yield "a fraction", 2.5
    elif isinstance(value, str):
        yield from {"None": None, "a number": 3, "a list": ["a"], "unknown": "no such name", "a class": Thing}.items()
    elif isinstance(value, torch.Generator):
        yield from {"a number": 1, "a string": "g", "numpy's": np.random.default_rng(0), "a class": Thing}.items()
    elif callable(value):
        yield from {"None": None, "a number": 3, "a string": "f", "a class": Thing, "of no argument": lambda: 0,
                    "returning None": lambda *given, **named: None, "returning text": lambda *given, **named: "x",
                    "returning one number": lambda *given, **named: torch.zeros(1)}.items()  # fmt: skip
    elif isinstance(value, tuple | list):
        yield from {"None": None, "a number": 3, "a string": "abc", "a class": Thing, "of strings": ("a", "b")}.items()
    else:
        other = {"None": None, "a number": 3, "a string": "abc", "a class": type(value), "an object": object()}
        yield from other.items()


def spoilt(name):
    """The calls of a function in which one argument is wrong: (argument, word, function, arguments, use of result)."""
    function, arguments, _ = calls.call(name)
    known = inspect.signature(function).parameters
    for argument, value in arguments.items():
        starred = known[argument].kind is inspect.Parameter.VAR_POSITIONAL
        for word, wrong in wrong_values(value[0] if starred else value):
            if wrong is None and "None" in f"{known[argument].default} {known[argument].annotation}":
                continue  # a value of its own
            function, fresh, used = calls.call(name)
            fresh = dict(fresh) | {argument: (wrong, *value[1:]) if starred else wrong}
            yield argument, word, function, fresh, used


def ending(function, arguments, argument, used):
    """How a call ends: "named", "told" (on purpose, but not by the name), "obscure" or "accepted"; and in what."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            used(calls.take(function, arguments))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = linecache.getline(frame.filename, frame.lineno).strip()
        meant = frame.filename.startswith(LABKIT) and line.startswith("raise")
        if not (meant and isinstance(error, TypeError | ValueError | RuntimeError | AssertionError)):
            return "obscure", f"{type(error).__name__}: {error}"
        return ("named" if re.search(rf"\b{argument}\b", str(error)) else "told"), str(error)
    finally:
        plt.close("all")
    return "accepted", ""


def test_every_public_function_has_a_valid_call_here():
    assert calls.public() == sorted(calls.CALLS)


@pytest.mark.parametrize("name", [name for name in calls.CALLS if name != "training.save_pretrained"])
def test_a_valid_call_is_accepted(name, capsys):
    function, arguments, used = calls.call(name)
    used(calls.take(function, arguments))
    plt.close("all")


def test_bad_input_is_refused_by_name_and_what_is_accepted_has_a_reason(monkeypatch):
    monkeypatch.setattr(pretrained, "write_weights", lambda path, weights, card: card)  # nothing reaches the assets
    counts, obscure, unexplained = collections.Counter(), [], []
    for name in calls.CALLS:
        for argument, word, function, arguments, used in spoilt(name):
            how, said = ending(function, arguments, argument, used)
            counts[how] += 1
            case = f"{name} {argument}: {word}"
            if how == "obscure":
                obscure.append(f"{case} -> {said[:90]}")
            if how == "accepted" and not any(re.fullmatch(pattern, case) for pattern in ACCEPTED):
                unexplained.append(case)
    total = sum(counts.values())
    print(dict(counts), f"of {total:,}")
    assert not unexplained, "\n".join(unexplained)
    assert total > 3000 and counts["obscure"] <= OBSCURE * total, "\n".join([str(counts), *obscure])
