"""The judge: its verdicts on planted digits, its distances against torchmetrics, the two that ship, and one's own."""

import math
from collections import Counter

import pytest
import torch
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import avg_pool2d
from torchmetrics.image.fid import FrechetInceptionDistance

from labkit.base.files import FOLDER
from labkit.data.images import Labelled, balanced_labels, balanced_subset, labelled, mnist32, to_float
from labkit.measure import judge as module
from labkit.measure.judge import Judge, Reading, real_quality
from labkit.measure.metrics import density_coverage, frechet_distance, vendi_score
from labkit.measure.quality import Quality
from labkit.nn.convnet import ConvNet, ResNet

SHIPPED = {"mnist-judge": ConvNet, "mnist-judge-2": ResNet}


class Head(nn.Module):
    """Logits of the digit planted in the first feature."""

    def forward(self, features):
        return -(features[:, :1] - torch.arange(10) / 9 * 2 + 1).abs()


class Reader(nn.Module):
    """A classifier that reads the digit planted in the first pixel; its features are all the pixels of the first row.

    Dropout and a written list of batch sizes show how it is called.
    """

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.tensor(1.0)), Head()
        self.dropout = nn.Dropout(0.9)
        self.sizes = []

    def features(self, x):
        self.sizes.append(len(x))
        return self.dropout(self.scale * x[:, 0, 0])


def planted(y, size=4, seed=0):
    """Random uint8 pictures with the digit y in the first pixel: 28 grey levels stand between two digits."""
    x = torch.randint(256, (len(y), 1, size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    x[:, 0, 0, 0] = (y * 255 / 9).round()
    return x


def shuffled(least, seed):
    """least + y images of every digit y, in a random order."""
    y = torch.arange(10).repeat_interleave(torch.arange(10) + least)
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))]
    return Labelled(planted(y, seed=seed), y)


REAL = shuffled(7, seed=2)  # 7 + y of every digit y


def reader(**options):
    return Judge(Reader(), REAL, **options)


# What a judge sees.


def test_the_judge_reads_what_is_planted_and_its_model_is_frozen():
    y = torch.randint(10, (30,), generator=torch.Generator().manual_seed(3))
    judge = Judge(Reader().train(), REAL)
    seen = judge.read(planted(y))
    assert torch.equal(seen.shown, y) and seen.shown.dtype == torch.int64
    assert torch.equal(seen.features, to_float(planted(y))[:, 0, 0]) and not seen.features.requires_grad
    assert not judge.model.training and not any(p.requires_grad for p in judge.model.parameters())


def test_bytes_and_floats_are_judged_alike():
    x = planted(torch.arange(10))
    for one, other in zip(reader().read(x), reader().read(to_float(x)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("chunk", "sizes"), [(4, [4, 4, 2]), (10, [10]), (1, [1] * 10), (500, [10])])
def test_images_are_read_a_chunk_at_a_time_in_their_order(chunk, sizes):
    x, judge = planted(torch.arange(10).flip(0)), reader(chunk=chunk)
    seen = judge.read(x)
    assert judge.model.sizes == sizes
    assert torch.equal(seen.features, reader().read(x).features) and seen.shown.tolist() == list(range(9, -1, -1))


def test_every_image_is_read_once_for_all_figures_and_the_real_ones_once_for_ever():
    judge, y = reader(), balanced_labels(30, 10)
    first = judge.measure(planted(y), y)
    assert sum(judge.model.sizes) == len(REAL.labels) + 30
    assert judge.measure(planted(y), y) == first
    assert sum(judge.model.sizes) == len(REAL.labels) + 60
    assert judge.measure(judge.read(planted(y)), y) == first and judge.accuracy(planted(y), y) == first.accuracy
    assert sum(judge.model.sizes) == len(REAL.labels) + 120
    assert judge.test_accuracy.value == 1 and judge.test_accuracy.n == len(REAL.labels)
    assert sum(judge.model.sizes) == len(REAL.labels) + 120


# Accuracy.


@pytest.mark.parametrize("wrong", [0, 3, 40])
def test_accuracy_is_the_share_of_right_digits_with_its_wilson_interval(wrong):
    y = torch.arange(40) % 10
    shown = y.clone()
    shown[:wrong] = (shown[:wrong] + 1) % 10
    found = reader().accuracy(planted(shown), y)
    expected = binomtest(40 - wrong, 40).proportion_ci(0.95, method="wilson")
    assert found == pytest.approx((1 - wrong / 40, expected.low, expected.high, 40), abs=1e-12)
    assert reader().measure(planted(shown), y).accuracy == found


def test_what_cannot_be_judged_is_refused_by_name_before_the_network_is_asked():
    judge, x, y = reader(), planted(torch.arange(10)), torch.arange(10)
    for function in (judge.accuracy, judge.measure):
        for wrong in (y[:9], y[:, None], torch.tensor(3)):
            with pytest.raises(ValueError, match=r"y must have shape \(10,\), one label per sample; got shape \("):
                function(x, wrong)
        with pytest.raises(ValueError, match=r"y must hold labels in 0\.\.9; got values from 1 to 10"):
            function(x, y + 1)
        with pytest.raises(TypeError, match="y must be an int64 tensor"):
            function(x, y.int())
        with pytest.raises(ValueError, match=r"x must be finite images \(B, C, H, W\); got .* with inf or NaN in it"):
            function(to_float(x) / 0, y)
    assert not judge.model.sizes


# Distance.


def torchmetrics_distance(real, fake):
    identity = nn.Identity()
    identity.num_features = real.shape[1]
    metric = FrechetInceptionDistance(feature=identity, normalize=True)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    return metric.compute().item()


class Linear(nn.Module):
    """Random features of 16 averaged patches, in double precision."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(torch.randn(16, 12, generator=torch.Generator().manual_seed(4)).double())
        self.head = nn.Linear(12, 10).double()

    def features(self, x):
        return avg_pool2d(x, 8).flatten(1).double() @ self.turn


@pytest.fixture(scope="module")
def mnist():
    """300 images of either split."""
    return {split: Labelled(*(part[:300] for part in mnist32(split))) for split in ("train", "test")}


def test_frechet_of_random_features_is_torchmetrics_and_zero_for_the_real_images_themselves(mnist):
    judge, model = Judge(Linear(), mnist["test"]), Linear()
    real, fake = (model.features(to_float(mnist[split].images)).detach() for split in ("test", "train"))
    assert judge.measure(*mnist["train"]).frechet == pytest.approx(torchmetrics_distance(real, fake), rel=1e-9)
    assert judge.measure(mnist["test"].images.flip(0), mnist["test"].labels).frechet == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", SHIPPED)
def test_frechet_of_a_shipped_judges_features_is_torchmetrics(mnist, name):
    judge = Judge(Judge.pretrained(name).model, mnist["test"])
    real, fake = (judge.read(mnist[split].images).features for split in ("test", "train"))
    distance = judge.measure(*mnist["train"]).frechet
    assert distance > 0 and distance == pytest.approx(torchmetrics_distance(real, fake), rel=1e-5)
    negatives = judge.measure(-to_float(mnist["train"].images), mnist["train"].labels)
    assert distance < 0.5 * negatives.frechet  # they are further away


# Density and coverage.


def reference(monkeypatch, y, judge=None):
    """The features of the real images that images of the digits y are compared with, as rows of numbers."""
    seen = []

    def witness(real, fake, k, radii):
        seen.append((real, fake, k))
        return density_coverage(real, fake)

    monkeypatch.setattr(module, "density_coverage", witness)
    x, judge = planted(y, seed=9), judge or reader()
    judge.measure(x, y)
    ((real, fake, k),) = seen
    assert k == 5 and torch.equal(fake, judge.read(x).features)
    return real


def digits(features):
    return ((features[:, 0] + 1) / 2 * 9).round().long()


@pytest.mark.parametrize(
    "y",
    [torch.full((6,), 3), torch.tensor([5, 0, 5, 9, 5, 0]), torch.arange(10).repeat(4), torch.tensor([2] * 9 + [7])],
    ids=["one digit", "some digits", "balanced", "every 2 that there is"],
)
def test_density_and_coverage_compare_with_as_many_real_digits_of_each_kind_as_were_asked_for(monkeypatch, y):
    real = reference(monkeypatch, y)
    expected = {digit: min(count, 7 + digit) for digit, count in Counter(y.tolist()).items()}
    assert Counter(digits(real).tolist()) == expected
    assert len(real.unique(dim=0)) == len(real)  # none twice
    known = {tuple(row) for row in to_float(REAL.images)[:, 0, 0].tolist()}
    assert {tuple(row) for row in real.tolist()} <= known


def test_where_more_are_asked_for_than_exist_the_reference_is_all_that_there_are(monkeypatch):
    real = reference(monkeypatch, torch.full((500,), 4))
    own = to_float(REAL.images[REAL.labels == 4])[:, 0, 0]
    assert torch.equal(real.unique(dim=0), own.unique(dim=0)) and len(real) == len(own) == 11


def test_the_reference_is_spread_evenly_over_the_real_images_of_a_digit(monkeypatch):
    own = to_float(REAL.images[REAL.labels == 9])[:, 0, 0]  # 16 of them
    judge = reader()
    assert torch.equal(reference(monkeypatch, torch.full((8,), 9), judge), own[::2])
    assert torch.equal(reference(monkeypatch, torch.full((6,), 9), judge), own[[0, 2, 5, 8, 10, 13]])
    assert torch.equal(reference(monkeypatch, torch.full((8,), 9), judge), own[::2])  # from memory


def test_density_and_coverage_are_those_of_the_metrics():
    y = torch.full((12,), 8)
    x, judge = planted(y, seed=5), reader()
    own = judge.read(REAL.images[REAL.labels == 8]).features
    chosen = own[[i * 15 // 12 for i in range(12)]]
    for _ in range(2):  # computed, and from memory
        assert judge.measure(x, y)[4:6] == density_coverage(chosen, judge.read(x).features, 5)


def test_the_real_images_themselves_are_covered_perfectly_and_as_varied_as_themselves():
    quality = reader().measure(*REAL)
    assert quality.coverage == 1 and quality.accuracy.value == 1 and quality.density >= 1
    assert quality.frechet == pytest.approx(0, abs=1e-6)
    assert (quality.spread, quality.vendi) == pytest.approx((1, 1), abs=1e-6)


# Spread and the Vendi score.


@pytest.mark.parametrize("shrink", [0.25, 0.5, 2.0])
def test_spread_is_the_standard_deviation_within_classes_and_vendi_falls_with_it(shrink):
    x, labels = to_float(REAL.images), REAL.labels
    for digit in range(10):  # pull each class to its own mean, and leave the means, which differ, where they are
        own = labels == digit
        x[own] = x[own].mean(0) + shrink * (x[own] - x[own].mean(0))
    quality = reader().measure(x, labels)
    assert quality.spread == pytest.approx(shrink, rel=1e-5)
    assert quality.vendi < 1 or shrink > 1


def test_one_image_over_and_over_has_no_diversity():
    first = torch.stack([REAL.images[REAL.labels == digit][0] for digit in range(10)])
    y = balanced_labels(60, 10)
    quality = reader().measure(first[y], y)
    counts = [min(6, 7 + digit) for digit in range(10)]
    features = reader().read(REAL.images).features
    expected = [1 / vendi_score(features[REAL.labels == d][:n]) for d, n in enumerate(counts)]
    assert quality.spread == pytest.approx(0, abs=1e-5) and quality.vendi == pytest.approx(sum(expected) / 10, rel=1e-5)


@pytest.mark.parametrize("each", [2, 5])
def test_the_spread_of_real_images_is_one_on_average_however_few_they_are(each):
    # Biased variances would give sqrt(1 - 1/each): .71 for two of a class, .89 for five.
    judge = Judge(Reader(), Labelled(planted(balanced_labels(4000, 10), seed=11), balanced_labels(4000, 10)))
    y, squares = balanced_labels(10 * each, 10), []
    for seed in range(100):
        squares.append(judge.measure(planted(y, seed=100 + seed), y).spread ** 2)
    mean, error = torch.tensor(squares).mean(), torch.tensor(squares).std() / 10
    assert abs(mean - 1) < 4 * error < 0.1


def test_a_class_with_a_single_image_says_nothing_of_variety():
    many = torch.cat((torch.full((8,), 3), torch.full((8,), 6)))
    alone = torch.cat((many, torch.tensor([1, 9])))
    x = planted(alone, seed=4)
    without, with_single = reader().measure(x[:16], many), reader().measure(x, alone)
    assert with_single.spread == without.spread and with_single.vendi == without.vendi
    each_alone = reader().measure(planted(torch.arange(10)), torch.arange(10))
    assert each_alone.spread is None and each_alone.vendi is None and math.isfinite(each_alone.frechet)
    assert "spread" not in str(each_alone) and "spread" not in each_alone.row()


def test_so_is_a_class_with_a_single_real_image():
    real = Labelled(torch.cat((REAL.images, planted(torch.tensor([3])))), torch.cat((REAL.labels, torch.tensor([10]))))
    y = torch.cat((torch.full((8,), 3), torch.full((8,), 10)))
    quality = Judge(Reader(), real).measure(planted(y % 10), y)
    only = reader().measure(planted(y % 10)[:8], y[:8])
    assert quality.spread == only.spread and quality.vendi == only.vendi


def test_a_few_images_have_no_density_and_one_image_no_distance():
    y = torch.tensor([3, 3, 3, 4, 4])
    quality = reader().measure(planted(y), y)
    assert quality.density is None and quality.coverage is None and math.isfinite(quality.frechet)
    few = Judge(Reader(), Labelled(*(part[:5] for part in REAL)))
    assert few.measure(planted(REAL.labels[:5].repeat(3)), REAL.labels[:5].repeat(3)).density is None
    with pytest.raises(ValueError, match="both sets need at least 2 points; got 115 and 1"):
        reader().measure(planted(y[:1]), y[:1])


# Real digits, and the judges that ship.


def test_measure_puts_the_figures_in_their_places():
    y = balanced_labels(60, 10)
    x, judge = planted(torch.cat(((y[:6] + 1) % 10, y[6:])), seed=6), reader()
    quality, seen = judge.measure(x, y), judge.read(x)
    assert isinstance(quality, Quality) and quality.n == 60 and quality.accuracy == judge.accuracy(x, y)
    assert quality.accuracy.value == 0.9
    assert quality.frechet == frechet_distance(judge.read(REAL.images).features, seen.features) > 0
    assert isinstance(seen, Reading) and None not in quality[:-1]
    assert quality.typical is None  # of images nobody knows the exact density


def test_real_quality_is_that_of_balanced_training_images(monkeypatch):
    train = shuffled(30, seed=1)
    monkeypatch.setattr(module, "mnist32", {"train": train}.__getitem__)
    for n, seed in ((20, 0), (157, 0), (157, 5)):
        assert real_quality(reader(), n, seed) == reader().measure(*balanced_subset(train, n, seed))
    assert real_quality(reader(), 50) == real_quality(reader(), 50, 0) != real_quality(reader(), 50, 1)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_judge_is_right_about_995_of_1000_test_images_as_its_card_says(name):
    judge = Judge.pretrained(name)
    share = judge.test_accuracy
    assert share.n == 10_000 and share.value >= 0.995
    # A near tie may fall to the other side on another processor.
    assert judge.card.details["figures"]["wrong of the 10,000 test images"] == pytest.approx(
        round(10_000 * (1 - share.value)), abs=1
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_judge_is_small_and_has_features_that_metrics_can_use(name):
    judge = Judge.pretrained(name)
    assert torch.equal(judge.real.images, mnist32("test").images)
    features = judge.read(mnist32("test").images[:20]).features
    assert features.shape[0] == 20 and features.shape[1] <= 256
    assert features.min() >= 0 and (features > 0).any(dim=1).all()
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 4_000_000
    assert type(judge.model) is SHIPPED[name] and judge.card.details["model"]["class"] == SHIPPED[name].__name__
    assert "MNIST training images" in judge.card.source


@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_judge_shows_is_what_its_network_says(name):
    judge, x = Judge.pretrained(name), mnist32("test").images[:300]
    with torch.no_grad():
        assert torch.equal(judge.read(x).shown, judge.model(to_float(x)).argmax(dim=1))


def test_the_first_judge_is_the_default_and_another_name_is_refused():
    assert isinstance(Judge.pretrained().model, ConvNet)
    with pytest.raises(ValueError, match="no pretrained model is called 'nope'"):
        Judge.pretrained("nope")


# A judge of one's own data.


@pytest.fixture(scope="module")
def own():
    """The 8x8 digits of scikit-learn in two parts, and a judge of them."""
    images, labels = load_digits(return_X_y=True)
    data = labelled(images.reshape(-1, 8, 8), labels, value_range=(0, 16))
    train, test = (Labelled(*(part[some] for part in data)) for some in (slice(None, 1200), slice(1200, None)))
    return train, test, Judge.train(train, test, steps=300)


def test_a_judge_of_ones_own_digits_is_right_about_images_it_has_not_seen(own):
    train, test, judge = own
    assert judge.test_accuracy.n == len(test.labels) and judge.test_accuracy.low > 0.9
    assert judge.accuracy(*test) == judge.test_accuracy and not judge.model.training
    real = judge.measure(*balanced_subset(train, 300))
    assert real.accuracy.value > 0.95 and 0.8 < real.spread < 1.2 and real.coverage > 0.8


def test_a_judge_of_ones_own_digits_tells_good_from_bad_and_many_from_few(own):
    train, _, judge = own
    real = balanced_subset(train, 300)
    blurred = avg_pool2d(real.images, 3, stride=1, padding=1)
    good, bad = judge.measure(*real), judge.measure(blurred, real.labels)
    assert bad.frechet > 3 * good.frechet and bad.accuracy.value < good.accuracy.value
    first = torch.stack([train.images[train.labels == digit][0] for digit in range(10)])
    collapsed = judge.measure(first[real.labels], real.labels)
    assert collapsed.coverage < 0.3 and collapsed.spread < 1e-3 and collapsed.frechet > 3 * good.frechet


def test_a_trained_judge_repeats_with_its_seed_and_leaves_torchs_randomness_alone(own):
    train, test, _ = own
    features = []
    for seed in (0, 0, 1):
        before = torch.random.manual_seed(len(features) + 7).get_state()
        judge = Judge.train(train, test, steps=3, seed=seed, widths=(4, 8))
        features.append(judge.read(test.images).features)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(features[0], features[1]) and not torch.equal(features[0], features[2])
    assert features[0].shape == (len(test.labels), 8)


def test_a_judge_can_be_trained_on_colours_and_few_images_of_unequal_sides():
    y = torch.arange(12) % 3
    images = torch.rand(12, 3, 8, 11, generator=torch.Generator().manual_seed(0)) * 2 - 1
    judge = Judge.train(Labelled(images, y), Labelled(images[:6], y[:6]), steps=2, widths=(4, 8))
    assert judge.measure(images, y).n == 12 and judge.model.head.out_features == 3
    with pytest.raises(ValueError, match=r"of one shape; got \(12, 3, 8, 11\) and \(12, 3, 8, 8\)"):
        Judge.train(Labelled(images, y), Labelled(images[..., :8], y))
