"""The 102 cases of use that were tried on the package, and reports of other projects: each with its verdict and proof.

Numbers are those of the review: 1 to 28 from public bug reports, B1 to B51 other ways of use, C1 to C23 damaged files,
kills and full disks; F from reports found later. "ok" works, or is refused by name; "clumsy" has its reason. The proof
is tried here, or is a test elsewhere.
"""

import copy
import io
import math
import pickle
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from labkit.base import drop_condition, seed_everything, seeded_noise
from labkit.base.files import Card, read_weights, write_weights
from labkit.data import balanced_labels, batches, draws, labelled, moons, to_uint8
from labkit.flow import (
    Cosine,
    ExactMarginal,
    GaussianPath,
    SquareRoot,
    adaptive,
    cfm_loss,
    complete,
    euler,
    guided,
    heun,
    limited,
    rescaled,
    ring,
    simulate,
)
from labkit.measure import Judge, draw
from labkit.nn import MLP, DiT, UNet
from labkit.show import guidance_explorer, tile
from labkit.training import fit, flow_loss, load_pretrained

ROOT = Path(__file__).parents[2]
PATH = GaussianPath()
EXACT = ExactMarginal(PATH, ring(4))
POINTS, TIMES, LABELS = torch.randn(4, 2), torch.full((4,), 0.5), torch.arange(4)
IMAGES, CLASSES = torch.rand(20, 1, 8, 8) * 2 - 1, torch.arange(20) % 5


def loss(model, z, y):
    return cfm_loss(model, PATH, z, y)


def unet(num_classes=5, **size):
    torch.manual_seed(0)
    network = UNet(num_classes=num_classes, **{"widths": (8,), "emb_dim": 8} | size)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    return network


def train(stream=None, model=None, how=loss, **options):
    stream = batches(IMAGES, CLASSES, 4) if stream is None else stream
    return fit(unet() if model is None else model, how, stream, **{"steps": 2, "lr": 1e-3, "progress": False} | options)


def ask(x=None, t=TIMES, y=LABELS):
    return unet()(IMAGES[:4] if x is None else x, t, y)


def drawn(model=None, w=3.0, size=(8, 8), y=LABELS, **options):
    return draw(unet() if model is None else model, seeded_noise(4, 1, *size), y, w, **{"steps": 2} | options)


def refused(words, *calls):
    """Every call ends in a ValueError or TypeError, or in fit's RuntimeError, that says so."""
    for call in calls:
        with pytest.raises((ValueError, TypeError, RuntimeError), match=words):
            call()


def right(*values):
    assert all(bool(value) for value in values), values


class Row(NamedTuple):
    number: str
    what: str
    proof: object  # a function that tries it, or the name of a test elsewhere
    verdict: str = "ok"


# fmt: off
ROWS = [
    Row("1", "rescaled guidance of a network that gives 0 (diffusers#13425)", lambda: right(
        drawn(UNet(num_classes=5, widths=(8,), emb_dim=8), rule=rescaled()).isfinite().all())),
    Row("2", "a likelihood where gradients are off (flow_matching#28)",
        "test_a_likelihood_needs_no_gradients_of_others"),
    Row("3", "NaN in figures of quality (pytorch-lightning#2636)", "test_what_once_passed_in_silence_is_refused"),
    Row("4", "fine-tuning what ships (stable-diffusion#784)", lambda: right(
        train(batches(torch.rand(8, 1, 32, 32) * 2 - 1, LABELS.repeat(2), 4),
              load_pretrained("mnist-unet-weak")[0]).steps == 2)),
    Row("5", "a null beyond the labels (DiT#77)", lambda: refused("null=10", lambda: guided(unet(), LABELS, 3.0, 10))),
    Row("6", "a class, or a fraction, for null (DiT#108)", lambda: refused(
        "null", lambda: guided(unet(), LABELS, 3.0, 4), lambda: guided(unet(), LABELS, 3.0, 5.5))),
    Row("7", "training and drawing without labels (DiT#18)", lambda: right(
        train(batches(IMAGES, None, 4), unet(None)).steps == 2, drawn(unet(None), 1.0, y=None).isfinite().all())),
    Row("8", "images of other sizes (diffusers#3630)", lambda: (
        right(*(unet(widths=(8, 16))(torch.zeros(4, 1, *size), TIMES, LABELS).shape[2:] == size
                for size in ((28, 28), (64, 64), (28, 64)))),
        refused("divisible by 4", lambda: unet(widths=(8, 16))(torch.zeros(4, 1, 30, 30), TIMES, LABELS)))),
    Row("9", "odd and empty sizes (fastai2#6)", lambda: (
        refused("divisible", lambda: ask(torch.zeros(4, 1, 33, 33))),
        refused("x must have shape", lambda: ask(torch.zeros(4, 1, 0, 0))))),
    Row("10", "a time that is a number (diffusers#13654)", lambda: refused("t must", *(
        lambda t=t: ask(t=t) for t in (0.5, 1, torch.tensor(0.5), TIMES[:1], TIMES[:, None], LABELS, TIMES.numpy())))),
    Row("11", "networks of other precisions (latent-consistency-model#46)",
        "test_networks_of_every_precision_draw_alike"),
    Row("12", "times of shape (B, 1) (conditional-flow-matching#68)", lambda: refused(
        "t must have shape", lambda: MLP()(POINTS, TIMES[:, None]))),
    Row("13", "own pictures, in the README (conditional-flow-matching#22)", lambda: right(
        re.search(r"labelled\(.+Judge\.train\(", (ROOT / "README.md").read_text(encoding="utf-8"), re.S))),
    Row("14", "labels of other kinds (conditional-flow-matching#163)", lambda: (
        refused("y must", *(lambda y=y: ask(y=y) for y in (LABELS.float(), LABELS.int(), LABELS[:, None], [0, 1]))),
        refused("y must", *(lambda y=y: drop_condition(y, 0.1, 5) for y in (LABELS > 1, [0, 1], LABELS.numpy()))))),
    Row("15", "pixels in [0, 1] or 0..255 (denoising-diffusion-pytorch#20)",
        "test_what_once_passed_in_silence_is_refused"),
    Row("16", "images of other channels (clear-diffusion-keras#10)", lambda: (
        refused("x must have shape", lambda: ask(torch.zeros(4, 3, 8, 8)), lambda: ask(torch.zeros(4, 8, 8))),
        right(tile(torch.zeros(4, 3, 8, 8), 2).shape[2] == 3))),
    Row("17", "a folder of pictures as tensors in [0, 1] (edge-connect#21)", lambda: right(
        labelled(torch.stack([torch.rand(3, 8, 8)] * 4), [0, 1, 0, 1], value_range=(0, 1)).images.min() < 0)),
    Row("18", "a loader that ends (ssd.pytorch#364)", "test_a_loader_of_torchs_is_a_stream"),
    Row("19", "a batch larger than the data (improved-diffusion#77)", lambda: refused(
        "batch_size", lambda: batches(IMAGES, CLASSES, 21))),
    Row("20", "one seed, one picture, alone or among others (diffusers#6501)", lambda: right(
        torch.allclose(drawn(chunk=1), drawn(), atol=1e-5))),
    Row("21", "kills while a checkpoint is written (pytorch-lightning#688)",
        "test_twenty_kills_while_a_checkpoint_is_written_lose_nothing"),
    Row("22", "Ctrl-C while a checkpoint is written (EfficientDet#101)",
        "test_an_interrupt_while_a_checkpoint_is_written_leaves_the_one_before"),
    Row("23", "a full disk (dddd_trainer#36)", "test_a_quota_leaves_the_files_before_and_the_training"),
    Row("24", "weights in channels_last are saved (safetensors#308)", lambda folder: (
        write_weights(folder / "a", unet().to(memory_format=torch.channels_last).state_dict(), Card("a", "b", "c")),
        right(*(torch.equal(w, unet().state_dict()[name]) for name, w in read_weights(folder / "a")[0].items())))),
    Row("25", "compiled networks train, draw, are saved, resume (pytorch#101107)", lambda folder: compiled(folder)),
    Row("26", "widgets that pile up pictures (colabtools#3623)",
        "test_a_small_picture_is_not_stretched_to_the_width_of_the_page_and_there_is_no_output_area"),
    Row("27", "a kernel that dies (nbconvert#959)", "test_a_kernel_that_dies_fails_its_notebook_once_and_at_once"),
    Row("28", "grids that are none (flow_matching#38)", lambda: refused("ts must", *(
        lambda ts=ts: simulate(euler(EXACT.velocity), POINTS, ts) for ts in (
            torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, math.nan]), torch.arange(99.0), 5, [0.0, 1.0])))),

    Row("B1", "labels 1 to K", "test_what_once_passed_in_silence_is_refused"),
    Row("B2", "numpy arrays", lambda: right(train(batches(IMAGES.numpy(), CLASSES.numpy(), 4)).steps == 2)),
    Row("B3", "a list of labels, or none", lambda: right(
        train(batches(IMAGES, CLASSES.tolist(), 4)).steps == 2, next(batches(IMAGES, None, 4))[1] is None)),
    Row("B4", "images of float64", lambda: refused(
        "x must be of torch.float32", lambda: train(batches(IMAGES.double(), CLASSES, 4)))),
    Row("B5", "images of whole numbers from a loader", lambda: refused("z must be floating-point", *(
        lambda z=z: train([(z, LABELS)]) for z in (IMAGES[:4].long(), IMAGES[:4] > 0, IMAGES[:4].to(torch.uint8))))),
    Row("B6", "batches that are dicts, or images alone", lambda: refused("stream must yield pairs", *(
        lambda batch=batch: train([batch]) for batch in ({"image": IMAGES, "label": CLASSES}, IMAGES[:4], (IMAGES,))))),
    Row("B7", "a loader and a checkpoint", "test_a_stream_that_cannot_be_resumed_is_refused_before_the_training"),
    Row("B8", "NaN somewhere in the data", lambda: (
        refused("data must be finite", lambda: train(with_nan())),
        refused("NaN in the data", lambda: train([(IMAGES[:4], LABELS), (IMAGES[:4] * math.nan, LABELS)])))),
    Row("B9", "a checkpoint that is no file", lambda folder: refused("checkpoint must be a file", *(
        lambda path=path: train(checkpoint=path) for path in (folder, "", Path(__file__) / "run.pt")))),
    Row("B10", "a checkpoint in a folder that cannot be written", lambda: refused(
        "checkpoint must be a file", lambda: train(checkpoint="/proc/run.pt"))),
    Row("B11", "a checkpoint under ~", "test_a_checkpoint_lies_where_a_tilde_says"),
    Row("B12", "resume of the checkpoint that is not there yet", lambda folder: right(
        train(checkpoint=folder / "run.pt", resume=folder / "run.pt").steps == 2,
        train(checkpoint=folder / "run.pt", resume=folder / "run.pt").steps == 2)),
    Row("B13", "more steps after a resume", lambda folder: (
        train(checkpoint=folder / "run.pt"),
        refused("another training", lambda: train(resume=folder / "run.pt", steps=4)))),
    Row("B14", "a resume with another stream",
        "test_a_checkpoint_of_another_training_is_refused_and_the_model_stays_as_it_was"),
    Row("B15", "drawing at another size than 32", lambda: right(
        drawn(size=(12, 8)).shape == (4, 1, 12, 8), guidance_explorer(dit(), shape=(1, 8, 8)))),
    Row("B16", "Ctrl-C without a checkpoint", "test_whatever_ends_a_training_leaves_its_history_and_the_average"),
    Row("B17", "fit twice", lambda: right(again())),
    Row("B18", "every cell of a notebook in turn, without a network", "test_all_that_ships_works_without_a_network"),
    Row("B19", "guidance scales of all kinds", lambda: (
        right(*(drawn(w=w).isfinite().all() for w in (1e3, -3, 0, 1, np.float32(3)))),
        refused("w must be a finite number", *(lambda w=w: drawn(w=w) for w in (math.inf, math.nan, "3", None))))),
    Row("B20", "an interval the wrong way round", lambda: refused("interval", lambda: limited(0.8, 0.2))),
    Row("B21", "an interval of no numbers", lambda: refused(
        "lo must", lambda: limited("0", "1"), lambda: limited(None, 1))),
    Row("B22", "a null of text", lambda: refused("null must", lambda: guided(unet(), LABELS, 2.0, null="10"))),
    Row("B23", "batches of one", lambda: right(train(batches(IMAGES, CLASSES, 1)).steps == 2)),
    Row("B24", "no sample at all", lambda: (
        refused("z must", lambda: loss(unet(), IMAGES[:0], CLASSES[:0])),
        refused("noise must", lambda: draw(unet(), IMAGES[:0], CLASSES[:0], 1.0)),
        refused("x must", lambda: ask(IMAGES[:0], TIMES[:0], LABELS[:0])))),
    Row("B25", "a field in the place of a step", "test_a_field_in_the_place_of_a_step_is_refused_with_the_remedy"),
    Row("B26", "a class for an object, an object for another", lambda: (
        refused("schedule must", lambda: GaussianPath(Cosine)),
        refused("path must", lambda: complete(Cosine(), POINTS, TIMES, z=POINTS), lambda: train(how=cfm_loss)))),
    Row("B27", "a loss that is not one number with a gradient", lambda: refused("loss_fn must return one number", *(
        lambda how=how: train(how=how) for how in (
            lambda m, z, y: z.flatten(1).sum(1), lambda m, z, y: 1.0, lambda m, z, y: None, lambda m, z, y: z.sum())))),
    Row("B28", "numbers of numpy's", lambda: right(
        train(steps=np.int64(2), lr=np.float64(1e-3)).steps == 2, seed_everything(np.int64(3)),
        torch.equal(seeded_noise(2, seed=np.int64(3)), seeded_noise(2, seed=3)))),
    Row("B29", "text for a number", lambda: (
        refused("lr must", lambda: train(lr="1e-3"), lambda: train(lr=None)),
        refused("clip must", lambda: train(clip=None)))),
    Row("B30", "a model without weights", "test_what_once_passed_in_silence_is_refused"),
    Row("B31", "fit where gradients are off", lambda: right(
        trained_within(torch.no_grad), trained_within(torch.inference_mode))),
    Row("B32", "drawing in inference mode", lambda: right(
        torch.equal(torch.inference_mode()(drawn)(), drawn()))),
    Row("B33", "a gradient through a flow", "test_a_flow_can_be_differentiated_where_that_is_asked_for"),
    Row("B34", "DataParallel", "test_a_model_that_is_told_nothing_draws_and_so_does_one_in_data_parallel"),
    Row("B35", "loaders with workers; another device", lambda: (
        right(train(DataLoader(list(zip(IMAGES, CLASSES, strict=True)), 4, num_workers=1)).steps == 2),
        refused("meta", lambda: train([(IMAGES[:4].to("meta"), LABELS)])))),
    Row("B36", "saving an own model under a path of text", lambda folder: right(
        write_weights(f"{folder}/own.safetensors", unet().state_dict(), Card("a", "b", "c")),
        read_weights(f"{folder}/own.safetensors")[0].keys() == unet().state_dict().keys())),
    Row("B37", "saving over what ships, or elsewhere", "test_a_name_that_ships_or_leads_elsewhere_is_not_written_over"),
    Row("B38", "pickling", lambda: (
        right(pickle.loads(pickle.dumps((PATH, unet(), ring(4), Cosine()))), copy.deepcopy(EXACT)),
        refused_pickle(heun(EXACT.velocity))),
        "clumsy: a field and a step are functions made on the spot, which pickle refuses by its own words; "
        "models, paths and mixtures travel, and the field is made where it is needed"),
    Row("B39", "keeping a history", lambda: right(stored(train().state_dict())["losses"])),
    Row("B40", "keeping all of a path", lambda: right(
        simulate(euler(EXACT.velocity), POINTS, torch.linspace(0, 1, 101), keep=True).shape == (101, 4, 2))),
    Row("B41", "fields of one column", "test_what_once_passed_in_silence_is_refused"),
    Row("B42", "tolerances below 0 or infinite", lambda: refused("rtol must", *(
        lambda tol=tol: adaptive(EXACT.velocity, POINTS, TIMES, rtol=tol) for tol in (-1.0, math.inf)))),
    Row("B43", "whole points", lambda: refused("x must", lambda: ring(4).log_prob(torch.tensor([[2, 0]])))),
    Row("B44", "NaN in pictures", lambda: (
        refused("NaN|finite", *(lambda use=use: use(torch.full((2, 1, 32, 32), math.nan)) for use in (
            to_uint8, lambda x: tile(x, 1), lambda x: Judge.pretrained().measure(x, LABELS[:2])))))),
    Row("B45", "what the judge cannot read", lambda: judged()),
    Row("B46", "schedules that are singular, or miss an end", lambda: (
        right(PATH.schedule.t_max > 0.99, SquareRoot().t_max < 1), refused("must", lambda: GaussianPath(Short())))),
    Row("B47", "devices that are not there", lambda: refused("device", *(
        lambda name=name: load_pretrained("mnist-unet-weak", name) for name in ("cuda:7", "gpu", "meta", 3)))),
    Row("B48", "devices and profiles of the environment", "test_a_device_that_the_machine_lacks_is_refused"),
    Row("B49", "imports are light", "test_importing_labkit_loads_nothing_heavy"),
    Row("B50", "names that Windows forbids", lambda: right(*(
        not set('<>:"|?*') & set(path.name) for path in (ROOT / "labkit").rglob("*")))),
    Row("B51", "labels by numbers that are none", lambda: (
        refused("n must", lambda: balanced_labels(2.5, 3)), refused("num_classes", lambda: balanced_labels(5, -1)),
        refused("null must", lambda: drop_condition(LABELS, 0.1, 2.5)))),

    Row("C1", "kills, and to the end", "test_twenty_kills_while_a_checkpoint_is_written_lose_nothing"),
    Row("C2", "Ctrl-C in a write", "test_an_interrupted_write_keeps_the_old_file_and_leaves_nothing_behind"),
    Row("C3", "full disk: checkpoint", "test_a_full_disk_leaves_the_files_before_and_the_training"),
    Row("C4", "full disk: weights", "test_a_quota_leaves_the_files_before_and_the_training"),
    Row("C5", "an accident between weights and card", lambda folder: between(folder)),
    Row("C6", "a tree and a home that cannot be written", "test_all_that_ships_works_in_a_tree_that_cannot_be_written"),
    Row("C7", "flipped bits in weights", "test_every_byte_counts"),
    Row("C8", "no weights", "test_an_unknown_name_is_refused_with_the_known_ones"),
    Row("C9", "what is no card", "test_what_is_no_card_is_refused_by_name"),
    Row("C10", "cards of other models", "test_a_card_with_unknown_or_missing_entries_is_refused_by_their_names"),
    Row("C11", "NaN in weights whose sum fits", "test_weights_that_are_nan_are_refused"),
    Row("C12", "mnist.npz damaged", "test_a_flipped_byte_in_a_copy_of_mnist_is_refused_by_name"),
    Row("C13", "mnist.npz damaged, with a card that fits", "test_mnist_that_holds_something_else_is_refused"),
    Row("C14", "checkpoints that are none", "test_another_file_is_refused_by_name"),
    Row("C15", "a flipped byte in a checkpoint", "test_one_flipped_byte_is_found_wherever_it_is"),
    Row("C16", "checkpoints with parts missing",
        "test_what_does_not_fit_is_refused_with_the_reason_and_then_no_part_has_changed"),
    Row("C17", "NaN in a checkpoint", "test_what_does_not_fit_is_refused_with_the_reason_and_then_no_part_has_changed"),
    Row("C18", "a checkpoint of another model",
        "test_a_checkpoint_of_another_training_is_refused_and_the_model_stays_as_it_was"),
    Row("C19", "NaN in the first batch", "test_the_first_batch_must_be_finite_floats_on_the_models_device"),
    Row("C20", "two processes, one checkpoint",
        "test_two_trainings_do_not_write_one_checkpoint_and_a_killed_one_holds_nothing"),
    Row("C21", "three threads, one checkpoint", "test_of_three_threads_that_train_on_one_checkpoint_one_does"),
    Row("C22", "no network", "test_all_that_ships_works_without_a_network"),
    Row("C23", "no network: Fashion-MNIST", "test_without_its_files_fashion_mnist_says_what_to_do"),

    Row("F1", "forward derivatives through attention (pytorch#128971)", lambda: derived()),
    Row("F2", "torch.export of every network", "test_the_exported_network_is_the_network"),
    Row("F3", "torch.func.vmap over samples", lambda: vmapped()),
    Row("F4", "labels out of range before they reach a device (MDT#2)",
        "test_labels_out_of_range_are_refused_before_any_step_wherever_they_hide"),
    Row("F13", "no float64 is made inside, which MPS lacks (torchdiffeq#257)", lambda: right(
        adaptive(EXACT.velocity, POINTS, torch.linspace(0, 1, 2)).dtype == torch.float32)),
    Row("F17", "an average that keeps buffers (denoising-diffusion-pytorch#136)",
        "test_an_average_copies_buffers_leaves_the_model_alone_and_goes_on_from_its_state"),
    Row("F18", "an average of few steps is no noise (improved-diffusion#59)", lambda: early()),
    Row("F28", "widget state in notebooks (colabtools#5288)", "test_metadata_is_clean_and_the_file_small"),
]
# fmt: on


class Short(Cosine):
    """A schedule that ends before the data."""

    def __call__(self, t):
        return super().__call__(0.5 * t)


TESTS = {
    name for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.M)
}  # fmt: skip


def dit():
    return DiT(num_classes=5, image_size=8, patch=4, width=8, depth=1, heads=2)


def compiled(folder):
    """A compiled network has no graph break, trains, draws, and leaves a checkpoint that needs no compiler."""
    network = unet()
    made = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(made(IMAGES[:4], TIMES, LABELS), network(IMAGES[:4], TIMES, LABELS))
    stream = batches(IMAGES, CLASSES, 4, torch.Generator().manual_seed(0))
    history = train(stream, made, checkpoint=folder / "run.pt")
    assert not any(name.startswith("_orig_mod") for name in history.ema.state_dict())
    torch.testing.assert_close(drawn(made), drawn(network))
    assert train(batches(IMAGES, CLASSES, 4), unet(), resume=folder / "run.pt").losses == history.losses


def with_nan():
    """A stream of data of which one, not in the first batch, is NaN."""
    images = IMAGES.clone()
    stream = batches(images, CLASSES, 4)
    images[stream._order[-1]] = math.nan
    return stream


def again():
    model = unet()
    first = train(model=model, steps=60).mean(20)
    return train(model=model, steps=60).mean(20) < first


def trained_within(mode):
    model, stream = unet(), batches(IMAGES, CLASSES, 4)
    before = model.head.weight.clone()
    with mode():
        train(stream, model)
    return (model.head.weight != before).any()


def refused_pickle(value):
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
        pickle.dumps(value)


def stored(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


def judged():
    judge, x = Judge.pretrained(), torch.rand(4, 1, 32, 32) * 2 - 1
    refused("y must", *(lambda y=y: judge.accuracy(x, y) for y in (LABELS + 7, LABELS.float())))
    refused("black is -1", *(lambda x=x: judge.accuracy(x, LABELS) for x in ((x + 1) / 2, (x + 1) * 127.5)))
    refused("32 by 32", lambda: judge.accuracy(x[..., :28, :28], LABELS))


def between(folder):
    """Weights whose card cannot be written are not written either: the old pair stays."""
    write_weights(folder / "a", {"w": torch.ones(3)}, Card("a", "b", "c"))
    with pytest.raises(TypeError, match="JSON"):
        write_weights(folder / "a", {"w": torch.zeros(3)}, Card("a", "b", "c", details={"d": object()}))
    assert read_weights(folder / "a")[0]["w"].sum() == 3


def derived():
    """d velocity / dt by forward derivatives equals differences, for both networks; attention by its formula."""
    for network in (unet().double(), dit().double()):
        x, t = IMAGES[:4].double(), TIMES.double()
        for weight in network.parameters():
            nn.init.normal_(weight, std=0.1)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            _, slope = torch.func.jvp(lambda t, f=network, x=x: f(x, t, LABELS), (t,), (torch.ones_like(t),))
        apart = (network(x, t + 1e-5, LABELS) - network(x, t - 1e-5, LABELS)) / 2e-5
        torch.testing.assert_close(slope, apart, rtol=1e-4, atol=1e-6)


def vmapped():
    for network in (unet(), dit()):
        one_by_one = torch.func.vmap(lambda x, t, y, f=network: f(x[None], t[None], y[None])[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that attention takes the samples in turn
            found = one_by_one(IMAGES[:4], TIMES, LABELS)
        torch.testing.assert_close(found, network(IMAGES[:4], TIMES, LABELS))


def early():
    """After 50 steps the average is no farther from the truth than the model that it averages."""
    torch.manual_seed(0)
    model, stream = MLP(2, 2, width=32, depth=2), draws(moons, 128, torch.Generator().manual_seed(0))
    history = fit(model, flow_loss(), stream, steps=50, lr=1e-2, progress=False)
    z, y = moons(4000, generator=torch.Generator().manual_seed(1))
    losses = []
    for one in (history.ema, model):
        torch.manual_seed(2)
        losses.append(loss(one, z, y).item())
    assert losses[0] < 1.05 * losses[1]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}: {row.what}")
def test_case(row, tmp_path):
    if isinstance(row.proof, str):
        assert row.proof in TESTS
    else:
        row.proof(*[tmp_path] * row.proof.__code__.co_argcount)


def test_every_case_of_the_review_has_its_row_and_few_are_clumsy():
    numbers = [row.number for row in ROWS if row.number[0] != "F"]
    wanted = [*map(str, range(1, 29)), *(f"B{k}" for k in range(1, 52)), *(f"C{k}" for k in range(1, 24))]
    assert numbers == wanted and len(wanted) == 102
    clumsy = [row for row in ROWS if row.verdict != "ok"]
    assert len(clumsy) <= 10 and all(row.verdict.startswith("clumsy: ") for row in clumsy)
