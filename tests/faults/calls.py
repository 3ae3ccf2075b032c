"""A valid call of every public function, so that one argument at a time can be spoilt.

A call is `(function, {name: value})`, made afresh each time; a function with parts behind a star takes them as a tuple
under that name. What a call returns may have to be used before anything happens: `used` says how.
"""

import importlib
import inspect
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from labkit.base import files
from labkit.data import Labelled, batches, moons
from labkit.flow import ExactMarginal, GaussianMixture, GaussianPath, Table, cfm_loss, euler, plain, ring
from labkit.measure import Judge, Quality, Share
from labkit.nn import MLP, ConvNet, UNet
from labkit.show import Frame, to_png

ROOMS = ("base", "data", "flow", "nn", "training", "measure", "show", "course")
PATH = GaussianPath()
TABLE = Table()
EXACT = ExactMarginal(PATH, ring(3, std=0.5))
T, TS = torch.tensor([0.2, 0.5, 0.7, 0.4]), torch.linspace(0, 1, 3)
Y = torch.tensor([0, 1, 2, 0])


def x():
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(0))


def images():
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def generator():
    return torch.Generator().manual_seed(0)


def labelled_images():
    return Labelled((images() * 127 + 128).to(torch.uint8), torch.arange(12) % 3)


def ax():
    return plt.figure().subplots()


def norm(points):
    return points.norm(dim=1)


@cache
def quality():
    return Quality(10, Share(0.9, 0.8, 1.0, 10), 1.0, 0.5, 0.9, 0.9, 1.0)


@cache
def judge():
    torch.manual_seed(0)
    return Judge(ConvNet(num_classes=3, widths=(4,), dim=8, size=8).eval(), labelled_images())


def mlp():
    torch.manual_seed(0)
    return MLP(2, 3, width=8, depth=1)


def unet():
    torch.manual_seed(0)
    return UNet(num_classes=3, widths=(8,), emb_dim=8)


def stream():
    return batches(x(), Y, 2, generator())


def card():
    return files.Card("a network", "here", "MIT")


def curve():
    return {1.0: quality(), 3.0: quality()}


def field(points, t):
    return EXACT.velocity(points, t)


def network_images():
    return images()[:4], T, Y


# name -> (arguments, or a function that makes them; how the result is used)
def _calls():
    exact_x = {"x": x(), "t": T.clone()}
    told = exact_x | {"y": Y.clone()}
    loss = {"model": mlp(), "path": PATH, "z": x(), "y": Y.clone(), "t": T.clone(), "eps": x()}
    solver = {"field": field}
    at = (x(), T.clone(), T + 0.1)
    pictures, times, labels = network_images()
    png = to_png(np.zeros((4, 4), dtype=np.uint8))

    def drawn(step):
        return step(*at)

    def on_field(guided):
        return guided(x(), T)

    return {
        "base.asset": lambda: {"name": "mnist-unet-solvers.csv"},
        "base.autocast": lambda: {"on": torch.device("cpu"), "dtype": torch.bfloat16},
        "base.device": lambda: {},
        "base.drop_condition": lambda: {"y": Y.clone(), "p": 0.5, "null": 3, "generator": generator()},
        "base.each": lambda: {"function": torch.neg, "ys": (Y.clone(),)},
        "base.expand_t": lambda: {"t": T.clone(), "x": x()},
        "base.half_precision": lambda: {"on": torch.device("cpu"), "heavy": False},
        "base.machine": lambda: {"on": torch.device("cpu")},
        "base.null_of": lambda: {"model": mlp(), "given": 3},
        "base.randn_like": lambda: {"x": x(), "generator": generator()},
        "base.read_table": lambda: {"name": "mnist-unet-solvers"},
        "base.seed_everything": lambda: {"seed": 3},
        "base.seeded_noise": lambda: {"shape": (2, 3), "seed": 3},
        "data.balanced_labels": lambda: {"n": 5, "num_classes": 3},
        "data.balanced_subset": lambda: {"data": labelled_images(), "n": 3, "seed": 0},
        "data.batches": lambda: ({"data": x(), "y": Y.clone(), "batch_size": 2, "generator": generator()}, next),
        "data.checkerboard": lambda: {"n": 4, "generator": generator()},
        "data.draws": lambda: ({"sample": moons, "batch_size": 4, "generator": generator()}, next),
        "data.labelled": lambda: {
            "images": images(),
            "labels": torch.arange(12) % 3,
            "value_range": (-1.0, 1.0),
            "multiple": 4,
        },
        "data.mnist32": lambda: {"split": "test"},
        "data.moons": lambda: {"n": 4, "noise": 0.1, "generator": generator()},
        "data.to_float": lambda: {"images": labelled_images().images},
        "data.to_uint8": lambda: {"x": images()},
        "flow.EmpiricalMarginal": lambda: {"path": PATH, "data": x(), "labels": Y.clone()},
        "flow.EmpiricalMarginal.denoiser": lambda: told,
        "flow.EmpiricalMarginal.velocity": lambda: told,
        "flow.ExactMarginal": lambda: {"path": PATH, "mixture": ring(3), "labels": torch.tensor([0, 1, 1])},
        "flow.ExactMarginal.class_logits": lambda: exact_x,
        "flow.ExactMarginal.log_prob": lambda: told,
        "flow.ExactMarginal.loss_floor": lambda: {"n": 10, "generator": generator()},
        "flow.ExactMarginal.posterior": lambda: told,
        "flow.ExactMarginal.score": lambda: told,
        "flow.ExactMarginal.velocity": lambda: told,
        "flow.ExactMarginal.velocity_variance": lambda: told,
        "flow.GaussianMixture": lambda: {"means": x(), "stds_or_covs": torch.ones(4), "weights": torch.ones(4)},
        "flow.GaussianMixture.combine": lambda: {"r": torch.rand(4, 3), "vectors": torch.rand(4, 3, 2)},
        "flow.GaussianMixture.components": lambda: {"x": x(), "alpha_t": T.clone(), "beta_t": 1 - T},
        "flow.GaussianMixture.log_prob": lambda: {"x": x()},
        "flow.GaussianMixture.sample": lambda: {"n": 4, "generator": generator()},
        "flow.GaussianMixture.score": lambda: {"x": x()},
        "flow.GaussianPath": lambda: {"schedule": PATH.schedule},
        "flow.GaussianPath.sample": lambda: {"z": x(), "t": T.clone(), "eps": x(), "generator": generator()},
        "flow.GaussianPath.score": lambda: {"x": x(), "z": x(), "t": T.clone()},
        "flow.GaussianPath.velocity": lambda: {"x": x(), "z": x(), "t": T.clone()},
        "flow.Linear.at_share": lambda: {"share": T.clone()},
        "flow.Schedule.at_share": lambda: {"share": T.clone()},
        "flow.Schedule.beta_d_beta": lambda: {"t": T.clone()},
        "flow.SquareRoot.beta_d_beta": lambda: {"t": T.clone()},
        "flow.Table": lambda: {"betas": torch.linspace(1e-4, 0.02, 1000)},
        "flow.Table.at_share": lambda: {"share": T.clone()},
        "flow.Table.beta_d_beta": lambda: {"t": T.clone()},
        "flow.Table.step_at": lambda: {"t": T.clone()},
        "flow.Table.times": lambda: {"steps": 4},
        "flow.adaptive": lambda: {"field": field, "x": x(), "ts": TS.clone(), "rtol": 1e-3, "atol": 1e-3},
        "flow.ancestral": lambda: (
            {"field": field, "path": PATH, "given": "velocity", "variance": "large", "generator": generator()},
            drawn,
        ),
        "flow.cfm_loss": lambda: loss,
        "flow.classifier_guided": lambda: (
            {
                "model": EXACT.velocity,
                "classifier": EXACT.class_logits,
                "y": Y.clone(),
                "w": 2.0,
                "path": PATH,
                "null": 3,
                "t_min": 1e-3,
            },
            on_field,
        ),
        "flow.complete": lambda: ({"path": PATH, "x": x(), "t": T.clone(), "velocity": x()}, lambda found: found.z),
        "flow.conditional": lambda: ({"model": mlp(), "y": Y.clone()}, on_field),
        "flow.convert": lambda: (
            {"model": mlp(), "path": PATH, "given": "eps", "wanted": "z", "to": GaussianPath(TABLE)},
            lambda model: model(x(), T, Y),
        ),
        "flow.cosine_betas": lambda: {"steps": 100},
        "flow.ddim": lambda: (
            {"field": field, "path": PATH, "given": "velocity", "eta": 0.5, "generator": generator()},
            drawn,
        ),
        "flow.draw_times": lambda: {"path": PATH, "z": x(), "generator": generator()},
        "flow.dsm_loss": lambda: loss | {"weighted": True},
        "flow.eps_loss": lambda: loss,
        "flow.euler": lambda: (solver, drawn),
        "flow.euler_maruyama": lambda: ({"drift": field, "sigma": 0.5, "generator": generator()}, drawn),
        "flow.gaussian_loss_floor": lambda: {"std": 0.5},
        "flow.guided": lambda: (
            {"model": mlp(), "y": Y.clone(), "w": 2.0, "null": 3, "rule": plain, "bad": mlp()},
            on_field,
        ),
        "flow.heun": lambda: (solver, drawn),
        "flow.kl_weights": lambda: {"path": PATH, "ts": TS.clone(), "variance": "large"},
        "flow.limited": lambda: {"lo": 0.2, "hi": 0.8},
        "flow.linear_betas": lambda: {"steps": 100},
        "flow.log_likelihood": lambda: {
            "field": field,
            "x": x(),
            "ts": TS.clone(),
            "probes": 1,
            "generator": generator(),
        },
        "flow.midpoint": lambda: (solver, drawn),
        "flow.petals": lambda: {"count": 3, "reach": 1.0, "along": 0.6, "across": 0.3},
        "flow.plain": lambda: {"u_0": x(), "u_y": x(), "w": 2.0, "x": x(), "t": T.clone()},
        "flow.posterior": lambda: {"path": PATH, "t": T.clone(), "s": T + 0.1},
        "flow.projected": lambda: ({"path": PATH, "eta": 0.5}, lambda rule: rule(x(), x() + 1, 2.0, x(), T)),
        "flow.rescaled": lambda: {"phi": 0.5},
        "flow.ring": lambda: {"count": 3, "radius": 2.0, "std": 0.2},
        "flow.rk4": lambda: (solver, drawn),
        "flow.sde_drift": lambda: ({"velocity": field, "score": EXACT.score, "sigma": 0.5}, on_field),
        "flow.simulate": lambda: {"step": euler(field), "x": x(), "ts": TS.clone(), "keep": True},
        "flow.variational_bound": lambda: {
            "field": field,
            "path": PATH,
            "given": "velocity",
            "z": x().sign(),
            "ts": TS.clone(),
            "variance": "large",
            "levels": 2,
            "eps": x(),
            "generator": generator(),
        },
        "nn.Attention": lambda: {"width": 8, "heads": 2},
        "nn.Attention.split": lambda: {"x": torch.rand(2, 4, 8)},
        "nn.ConvNet": lambda: {"channels": 1, "num_classes": 3, "widths": (4,), "dim": 8, "size": 8, "dropout": 0.1},
        "nn.ConvNet.features": lambda: {"x": pictures},
        "nn.DiT": lambda: {
            "channels": 1,
            "num_classes": 3,
            "image_size": 8,
            "patch": 4,
            "width": 8,
            "depth": 1,
            "heads": 2,
            "mlp_ratio": 2,
        },
        "nn.DiT.attention_weights": lambda: {"x": pictures, "t": times, "y": labels, "block": 0},
        "nn.DiT.initialize_weights": lambda: {},
        "nn.MLP": lambda: {"dim": 2, "num_classes": 3, "width": 8, "depth": 1},
        "nn.NoisyClassifier": lambda: {
            "channels": 1,
            "num_classes": 3,
            "size": 8,
            "widths": (8,),
            "patch": 2,
            "emb_dim": 8,
        },
        "nn.ResNet": lambda: {"channels": 1, "num_classes": 3, "widths": (8,)},
        "nn.ResNet.features": lambda: {"x": pictures},
        "nn.ResidualBlock": lambda: {"channels_in": 8, "channels_out": 8, "emb_dim": 8},
        "nn.UNet": lambda: {"channels": 1, "num_classes": 3, "widths": (8,), "blocks": 1, "patch": 2, "emb_dim": 8},
        "nn.flop_count": lambda: {"network": unet(), "inputs": network_images()},
        "nn.grid_positions": lambda: {"rows": 2, "columns": 2, "dim": 8},
        "nn.group_norm": lambda: {"channels": 8},
        "nn.modulate": lambda: {"x": torch.rand(2, 4, 8), "shift": torch.rand(2, 8), "scale": torch.rand(2, 8)},
        "nn.patchify": lambda: {"x": pictures, "patch": 4},
        "nn.shape_trace": lambda: {"network": unet(), "inputs": network_images()},
        "nn.unpatchify": lambda: {"tokens": torch.rand(2, 4, 16), "patch": 4, "height": 8, "width": 8},
        "nn.zeroed": lambda: {"layer": nn.Conv2d(1, 1, 1)},
        "training.PowerAverage": lambda: {"model": mlp(), "gamma": 9.0},
        "training.PowerAverage.update": lambda: {"model": mlp()},
        "training.classification_loss": lambda: {"amount": 0.1},
        "training.fit": lambda: {
            "model": mlp(),
            "loss_fn": lambda m, z, y: cfm_loss(m, PATH, z, y),
            "stream": stream(),
            "steps": 2,
            "lr": 1e-3,
            "warmup": 1,
            "weight_decay": 0.01,
            "clip": 1.0,
            "ema_gamma": 9.0,
            "checkpoint_seconds": 60.0,
            "graph": False,
            "progress": False,
        },
        "training.flow_loss": lambda: ({"path": PATH, "drop": 0.1, "predicts": "eps"}, lambda f: f(mlp(), x(), Y)),
        "training.images_seen": lambda: {"card": files.read_card(files.FOLDER / "mnist-unet.safetensors")},
        "training.load_pretrained": lambda: {"name": "mnist-judge", "device": "cpu"},
        "training.names": lambda: {},
        "training.noisy_classification_loss": lambda: (
            {"path": PATH},
            lambda loss_fn: loss_fn(EXACT.class_logits, x(), Y),
        ),
        "training.save_pretrained": lambda: {"name": "mine", "network": mlp(), "card": card()},
        "training.steps_within": lambda: {"seconds": 1.0, "train": lambda n: fitted(n), "share": 0.05, "few": 2},
        "measure.Judge": lambda: {"model": judge().model, "real": labelled_images(), "chunk": 4},
        "measure.Judge.accuracy": lambda: {"x": images(), "y": torch.arange(12) % 3},
        "measure.Judge.measure": lambda: {"x": images(), "y": torch.arange(12) % 3},
        "measure.Judge.pretrained": lambda: {"name": "mnist-judge", "device": "cpu"},
        "measure.Judge.read": lambda: {"x": images()},
        "measure.Judge.train": lambda: {
            "train": labelled_images(),
            "test": labelled_images(),
            "steps": 1,
            "widths": (8,),
            "seed": 0,
        },
        "measure.clipped": lambda: {"x": images()},
        "measure.cloud_quality": lambda: {"x": x(), "y": Y.clone(), "exact": EXACT},
        "measure.count_wrong": lambda: {"model": judge().model, "data": labelled_images(), "limit": 4, "chunk": 4},
        "measure.draw": lambda: {
            "model": unet(),
            "noise": images()[:4],
            "y": Y.clone(),
            "w": 2.0,
            "null": 3,
            "steps": 1,
            "rule": plain,
            "bad": unet(),
            "decode": torch.tanh,
            "chunk": 2,
            "half": False,
        },
        "measure.field_error": lambda: {
            "model": EXACT.velocity,
            "exact": EXACT,
            "truth": EXACT.velocity,
            "times": 2,
            "n": 4,
            "with_labels": False,
            "generator": generator(),
        },
        "measure.held_out_loss": lambda: {
            "model": unet(),
            "path": PATH,
            "data": labelled_images(),
            "limit": 4,
            "chunk": 4,
        },
        "measure.kinds_of_guidance": lambda: {"weak": mlp()},
        "measure.real_quality": lambda: {"judge": Judge.pretrained(), "n": 20, "seed": 0},
        "measure.share": lambda: {"successes": 2, "n": 4, "confidence": 0.95},
        "measure.shipped_curve": lambda: {"name": "mnist-unet"},
        "measure.shipped_curves": lambda: {"name": "mnist-unet"},
        "measure.sliced_w2": lambda: {"x": x(), "y": x() + 1, "projections": 4, "generator": generator()},
        "measure.sweep": lambda: {
            "sample": lambda w, y: x(),
            "measure": lambda x, y: 1.0,
            "ws": (1.0, 2.0),
            "y": Y.clone(),
        },
        "show.Dials": lambda: {"draw": lambda w: Frame(png, "text"), "dials": {"w": (1.0, 2.0)}},
        "show.Dials.frame": lambda: {"setting": (1.0,)},
        "show.Dials.prepare": lambda: {"name": "w"},
        "show.arrows": lambda: {"ax": ax(), "field": lambda p: p, "limit": 3.0, "top": 1.0, "n": 3},
        "show.cloud": lambda: {"ax": ax(), "x": x(), "y": Y.clone(), "limit": 3.0, "colour": "tab:blue", "size": 5.0},
        "show.density": lambda: {
            "ax": ax(),
            "log_prob": norm,
            "limit": 3.0,
            "cmap": "Greys",
            "lines": False,
            "top": 1.0,
        },
        "show.frechet_curve": lambda: {"ax": ax(), "curve": curve(), "real": quality(), "label": "a"},
        "show.generators_diagram": lambda: {"ax": ax()},
        "show.guided_cloud": lambda: {"ax": ax(), "x": x(), "label": 0, "exact": EXACT, "limit": 3.0},
        "show.image_grid": lambda: {
            "ax": ax(),
            "images": images(),
            "columns": 4,
            "row_labels": ["a", "b", "c"],
            "column_labels": ["a", "b", "c", "d"],
            "title": "t",
            "gap": 1,
        },
        "show.guidance_explorer": lambda: {
            "model": unet(),
            "judge": judge(),
            "curves": {"guided": curve()},
            "real": quality(),
            "ws": (1.0, 2.0),
            "steps": (1, 2),
            "seed": 0,
            "rules": {"guided": {}},
            "shape": (1, 8, 8),
        },
        "show.loss_curve": lambda: {"ax": ax(), "losses": [1.0, 0.5], "first": 1.0},
        "show.mesh": lambda: {"limit": 3.0, "n": 3},
        "show.quality_curve": lambda: {"ax": ax(), "curve": curve(), "real": quality(), "at": 1.0},
        "show.reach": lambda: {"clouds": (x(), torch.rand(2, 3, 2)), "least": 3.0},
        "show.routes": lambda: {"ax": ax(), "way": torch.rand(3, 4, 2), "limit": 3.0, "colour": "0.3"},
        "show.show": lambda: {"figure": plt.figure(), "alt": "a figure"},
        "show.show_gif": lambda: {"gif": b"GIF89a", "alt": "a film"},
        "show.tile": lambda: {"images": images(), "columns": 4, "gap": 1},
        "show.to_gif": lambda: {"frames": [png, png], "seconds": 1.0, "colours": 4},
        "show.to_png": lambda: {"figure": np.zeros((4, 4), dtype=np.uint8), "scale": 2},
        "show.tradeoff_curve": lambda: {"ax": ax(), "curve": curve(), "real": quality(), "label": "a"},
        "show.triptych": lambda: {
            "axes": plt.figure().subplots(1, 3),
            "learned": lambda p: p,
            "exact": lambda p: p + 1,
            "limit": 3.0,
            "log_prob": norm,
            "names": ("a", "b", "c"),
        },
        "show.turn_w": lambda: {
            "sample": lambda w, y: torch.randn(len(y), 2),
            "exact": EXACT,
            "ws": (1.0, 2.0),
            "n": 30,
            "limit": 3.0,
        },
        "show.unet_diagram": lambda: {
            "ax": ax(),
            "trace": [
                ("stem", (1, 8, 4, 4)),
                ("encoder.0.0", (1, 8, 4, 4)),
                ("decoder.0.0", (1, 8, 4, 4)),
                ("midcoder.0", (1, 8, 4, 4)),
                ("head", (1, 4, 4, 4)),
            ],
        },
        "show.use_style": lambda: {},
        "course.accepted": lambda: {"number": "01.1", "otherwise": norm},
        "course.begin": lambda: {"budgets": {p: {"steps": 1} for p in ("fast", "cpu", "gpu")}, "on": "cpu", "seed": 0},
        "course.check": lambda: {"number": "01.1", "answer": lambda field, x, t, s: x + (s - t)[:, None] * field(x, t)},
    }


def fitted(n):
    return importlib.import_module("labkit.training").History(mlp(), [1.0] * n, seconds=0.01 * n)


CALLS = _calls()
# the objects whose methods are called
OWNERS = {
    "flow.EmpiricalMarginal": lambda: importlib.import_module("labkit.flow").EmpiricalMarginal(PATH, x(), Y.clone()),
    "flow.ExactMarginal": lambda: EXACT,
    "flow.GaussianMixture": lambda: GaussianMixture(x()[:3], 0.5),
    "flow.GaussianPath": lambda: PATH,
    "flow.Linear": lambda: PATH.schedule,
    "flow.Schedule": lambda: importlib.import_module("labkit.flow").Cosine(),
    "flow.SquareRoot": lambda: importlib.import_module("labkit.flow").SquareRoot(),
    "flow.Table": lambda: TABLE,
    "measure.Judge": judge,
    "nn.Attention": lambda: importlib.import_module("labkit.nn").Attention(8, 2),
    "nn.ConvNet": lambda: judge().model,
    "nn.DiT": lambda: importlib.import_module("labkit.nn").DiT(1, 3, image_size=8, patch=4, width=8, depth=1, heads=2),
    "nn.ResNet": lambda: importlib.import_module("labkit.nn").ResNet(1, 3, widths=(8,)),
    "show.Dials": lambda: importlib.import_module("labkit.show").Dials(
        lambda w: Frame(to_png(np.zeros((4, 4), dtype=np.uint8)), "text"), {"w": (1.0, 2.0)}
    ),
    "training.PowerAverage": lambda: importlib.import_module("labkit.training").PowerAverage(mlp()),
}
# Protocols and records hold what they are given; a network's forward checks shape and dtype, in tests/nn.
NOT_CALLED = {"forward", "state_dict", "load_state_dict"}


def public():
    """The names of all public functions, and of public methods of public classes that are no records."""
    found = []
    for room in ROOMS:
        for name, value in vars(importlib.import_module(f"labkit.{room}")).items():
            if name.startswith("_") or not getattr(value, "__module__", "").startswith("labkit."):
                continue
            if inspect.isfunction(value):
                found.append(f"{room}.{name}")
            elif inspect.isclass(value) and not _is_record(value):
                found += [f"{room}.{name}"] * (value.__init__ is not object.__init__)
                found += [
                    f"{room}.{name}.{part}"
                    for part, method in vars(value).items()
                    if (inspect.isfunction(method) or isinstance(method, classmethod | staticmethod))
                    and not part.startswith("_")
                    and part not in NOT_CALLED
                ]
    return sorted(found)


def _is_record(value):
    return issubclass(value, tuple) or hasattr(value, "__dataclass_fields__") or getattr(value, "_is_protocol", False)


def call(name):
    """A fresh valid call: `(function, arguments, how the result is used)`."""
    made = CALLS[name]()
    arguments, used = made if isinstance(made, tuple) else (made, lambda result: result)
    room, *parts = name.split(".")
    if len(parts) == 2 and f"{room}.{parts[0]}" in OWNERS:
        function = getattr(OWNERS[f"{room}.{parts[0]}"](), parts[1])
    else:
        function = getattr(importlib.import_module(f"labkit.{room}"), parts[0])
    return function, arguments, used


def take(function, arguments):
    """Call the function, with the parts of a starred argument in their place."""
    starred = [k for k, p in inspect.signature(function).parameters.items() if p.kind is p.VAR_POSITIONAL]
    if not starred or starred[0] not in arguments:
        return function(**arguments)
    before = [arguments[k] for k, p in inspect.signature(function).parameters.items()
              if p.kind is p.POSITIONAL_OR_KEYWORD and k in arguments]  # fmt: skip
    after = {
        k: v
        for k, v in arguments.items()
        if inspect.signature(function).parameters[k].kind is inspect.Parameter.KEYWORD_ONLY
    }
    return function(*before, *arguments[starred[0]], **after)
