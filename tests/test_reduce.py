"""What happens to features before the ridge: scaling, components, responses, readouts."""

import numpy as np
import pytest
from nilearn.glm.first_level.hemodynamic_models import glover_hrf, spm_hrf
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, signal
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from cobe.core.errors import CobeError
from cobe.encoding import HRF, Reduction, evaluate
from cobe.encoding.crossval import fit_folds, load, make_plan

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
TR_S = 1.49
OPTIONS = {"delays_tr": (1, 2), "alphas": [1, 100], "n_permutations": 0, "n_bootstrap": 0}


def data(n_runs=4, n_trs=80, n_features=12, seed=0):
    rng = np.random.default_rng(seed)
    mixing, weights = rng.standard_normal((3, n_features)), rng.standard_normal((3, 4))
    runs_x, runs_y = [], []
    for _ in range(n_runs):
        latent = signal.lfilter([1], [1, -0.7], rng.standard_normal((n_trs, 3)), axis=0)
        x = latent @ mixing + 0.3 * rng.standard_normal((n_trs, n_features))
        y = rng.standard_normal((n_trs, 4))
        y[2:] += latent[:-2] @ weights
        x[30:32] = np.nan
        runs_x.append(x * np.logspace(-1, 1, n_features))
        runs_y.append(y)
    return runs_x, runs_y


def fits(runs_x, runs_y, groups=range(4), **options):
    plan = make_plan(delays_tr=(1, 2), alphas=[10.0], dtype=np.float64, **options)
    return list(fit_folds(load(runs_x, runs_y, list(groups), plan), plan))


def test_components_equal_scikit_learn_on_the_training_rows():
    runs_x, runs_y = data()
    fit = fits(runs_x, runs_y, reduce=Reduction("pca", 5))[0]
    # volumes that rows 2 ... 79 of runs 1 to 3 look at, the gap apart
    used = [t for t in range(79) if t not in (30, 31)]
    train = np.concatenate([x[used] for x in runs_x[1:]])
    scaler = StandardScaler().fit(train)
    pca = PCA(5).fit(scaler.transform(train))
    rows = [t for t in range(2, 80) if not {t - 1, t - 2} & {30, 31}]
    expected = np.concatenate(
        [
            np.concatenate(
                [pca.transform(scaler.transform(x[np.array(rows) - d])) for d in (1, 2)], 1
            )
            for x in runs_x
        ]
    )
    found = fit.x.numpy()
    assert found.shape == expected.shape == (4 * len(rows), 10)
    # the same up to a common offset, and a sign per component
    found, expected = found - found.mean(axis=0), expected - expected.mean(axis=0)
    signs = np.sign((found * expected).sum(axis=0))
    assert_array_equal(signs[:5], signs[5:])
    assert_allclose(found * signs, expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["pca", "random", "scale"])
def test_held_out_rows_do_not_reach_what_is_fitted(kind):
    """Held-out features changed beyond measure: weights and training features are the same."""
    reduction = Reduction(kind, None if kind == "scale" else 5)
    runs_x, runs_y = data()
    before = fits(runs_x, runs_y, reduce=reduction)
    changed = [x.copy() for x in runs_x]
    changed[2] = changed[2] * -50 + 3 * np.random.default_rng(1).standard_normal(changed[2].shape)
    after = fits(changed, runs_y, reduce=reduction)
    a, b = before[2].x.numpy(), after[2].x.numpy()
    train = before[2].fold.train
    still = [m - m.mean(axis=0) for m in (a[train], b[train])]
    assert_allclose(*still, atol=1e-9)
    assert np.abs(a - b)[before[2].fold.test].max() > 10
    # and the folds that train on the changed run do change
    assert np.abs(before[0].x.numpy() - after[0].x.numpy())[train].max() > 0.1


def test_held_out_part_of_a_run_does_not_reach_what_is_fitted():
    """The same where levels alternate inside a run, up to the purged border."""
    runs_x, runs_y = data(n_runs=2)
    groups = [np.repeat(["1", "4"], [50, 30]).astype(object) for _ in range(2)]
    before = fits(runs_x, runs_y, groups, reduce=Reduction("pca", 5))[1]
    changed = [x.copy() for x in runs_x]
    for x in changed:
        x[50:] = x[50:] * 20 + 7
    after = fits(changed, runs_y, groups, reduce=Reduction("pca", 5))[1]
    assert before.fold.label == "4" and before.fold.n_purged > 0
    a, b = (f.x.numpy()[before.fold.train] for f in (before, after))
    assert_allclose(a - a.mean(axis=0), b - b.mean(axis=0), atol=1e-9)


def test_random_projection_keeps_distances_and_is_seeded():
    x = np.random.default_rng(0).standard_normal((50, 400))
    fitted = Reduction("random", 200, scale=False, seed=4).fit(x)
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    projected = fitted(x)
    ratio = (
        np.linalg.norm(projected[:, None] - projected, axis=2)[distance > 0]
        / distance[distance > 0]
    )
    assert 0.97 < ratio.mean() < 1.03 and ratio.std() < 2 / np.sqrt(200)
    assert_array_equal(projected, Reduction("random", 200, scale=False, seed=4).fit(x)(x))
    assert not np.allclose(projected, Reduction("random", 200, scale=False, seed=5).fit(x)(x))


def test_a_column_that_does_not_change_in_training_stays_out():
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    x[:, 1] = 0.7
    fitted = Reduction("scale").fit(x)
    other = np.full((2, 3), 5.0, np.float32)
    other[1] = np.nan
    assert fitted(other)[0, 1] == 0 and fitted(other).dtype == np.float32
    assert np.isnan(fitted(other)[1, [0, 2]]).all()
    assert_allclose(fitted(x)[:, [0, 2]].std(axis=0), 1, atol=1e-6)


def test_reduced_features_still_score():
    runs_x, runs_y = data()
    for reduction in (Reduction("pca", 3), Reduction("random", 8), Reduction("scale")):
        table = evaluate(runs_x, runs_y, groups=range(4), reduce=reduction, **OPTIONS)
        assert table[(table.held_out == "all") & (table.summary == "mean")].r.item() > 0.3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Reduction("ica", 3), "'ica' is unknown"),
        (lambda: Reduction("pca"), "n_components None"),
        (lambda: Reduction("random", 1.5), "n_components 1.5"),
        (lambda: Reduction("scale", 3), "keeps all columns"),
        (
            lambda: evaluate(*data(), groups=range(4), reduce=Reduction("pca", 13), **OPTIONS),
            "13 comp",
        ),
        (
            lambda: evaluate(*data(), groups=range(4), reduce={"a": 1}, **OPTIONS),
            "with bands a dict",
        ),
        (lambda: evaluate(*data(), groups=range(4), reduce=3, **OPTIONS), "give a Reduction"),
        (
            lambda: evaluate(
                *data(2, n_trs=40, n_features=60),
                groups=[0, 1],
                reduce=Reduction("pca", 50),
                **OPTIONS,
            ),
            "50 components of 37 training volumes",
        ),
        (
            lambda: evaluate(
                *data(),
                groups=range(4),
                bands={"a": slice(0, 6), "b": slice(6, 12)},
                reduce={"c": Reduction("pca", 2)},
                **OPTIONS,
            ),
            "'c' is no band with a Reduction; the bands are 'a', 'b'",
        ),
    ],
)
def test_bad_reductions_are_named(make, words):
    with pytest.raises(CobeError, match=words):
        make()


@pytest.mark.parametrize(("model", "peer"), [("spm", spm_hrf), ("glover", glover_hrf)])
def test_kernel_is_the_integral_of_nilearns_response(model, peer):
    """By quadrature over a finely sampled function, interpolated."""
    fine = peer(TR_S, oversampling=2000, time_length=32)
    time = np.linspace(0, 32, len(fine))
    areas = []
    for lag in range(int(24 / TR_S + 0.5) + 1):
        low, high = max(0, (lag - 0.5) * TR_S), min(24, (lag + 0.5) * TR_S)
        grid = np.linspace(low, high, 2001)
        areas.append(integrate.trapezoid(np.interp(grid, time, fine), grid))
    kernel = HRF(TR_S, model).kernel
    assert_allclose(kernel, np.array(areas) / np.sum(areas), atol=4e-4)
    assert 4 < kernel.argmax() * TR_S < 6
    assert_allclose(kernel.sum(), 1)


def test_convolution_is_causal_and_mode_same_is_not():
    hrf = HRF(TR_S)
    x = np.zeros((60, 2))
    x[30, 0], x[25, 1] = 1, -2
    found = hrf.convolve(x)
    assert np.isnan(found[: hrf.n_lags - 1]).all() and not np.isnan(found[hrf.n_lags - 1 :]).any()
    for k in range(2):
        full = np.convolve(x[:, k], hrf.kernel, mode="full")[:60]
        assert_allclose(found[hrf.n_lags - 1 :, k], full[hrf.n_lags - 1 :], atol=1e-12)
    # nothing before the impulse; mode="same" centres the kernel and answers before it happens
    assert_array_equal(found[hrf.n_lags - 1 : 30, 0], 0)
    same = np.convolve(x[:, 0], hrf.kernel, mode="same")
    assert np.abs(same[:30]).max() > 0.1
    changed = x.copy()
    changed[41:] += 5
    assert_array_equal(hrf.convolve(changed)[:41], found[:41])


def test_convolution_leaves_out_what_a_gap_reaches():
    hrf = HRF(TR_S, span_s=9.0)
    x = np.random.default_rng(0).standard_normal((50, 2))
    x[20:22] = np.nan
    found = hrf.convolve(x)
    lost = set(range(hrf.n_lags - 1)) | set(range(20, 22 + hrf.n_lags - 1))
    assert_array_equal(np.flatnonzero(np.isnan(found).any(axis=1)), sorted(lost))
    assert_array_equal(hrf.convolve(x.astype(np.float32)).dtype, np.float32)


def test_convolved_features_find_a_planted_response():
    hrf, rng = HRF(TR_S), np.random.default_rng(2)
    runs_x = [rng.standard_normal((100, 3)) for _ in range(3)]
    weights = rng.standard_normal((3, 4))
    runs_y = []
    for x in runs_x:
        answer = np.stack([np.convolve(a, hrf.kernel)[:100] for a in (x @ weights).T], axis=1)
        runs_y.append(answer / answer.std(axis=0) + 0.5 * rng.standard_normal((100, 4)))
    options = OPTIONS | {"delays_tr": (0,), "alphas": [0.1, 1]}
    table = evaluate(runs_x, runs_y, groups=range(3), hrf=hrf, **options)
    r = table[(table.held_out == "all") & (table.summary == "mean")].r.item()
    assert r > 0.8
    # on the convolved rows it is a plain ridge
    rows = np.arange(hrf.n_lags - 1, 100)
    p, y = [], []
    for held in range(3):
        train = [k for k in range(3) if k != held]
        model = Ridge(alpha=1.0).fit(
            np.concatenate([hrf.convolve(runs_x[k])[rows] for k in train]),
            np.concatenate([runs_y[k][rows] for k in train]),
        )
        p.append(model.predict(hrf.convolve(runs_x[held])[rows]))
        y.append(runs_y[held][rows])
    table = evaluate(runs_x, runs_y, groups=range(3), hrf=hrf, **options | {"alphas": [1.0]})
    for held in range(3):
        found = table[(table.held_out == str(held)) & (table.summary == "target")].r
        expected = [np.corrcoef(p[held][:, t], y[held][:, t])[0, 1] for t in range(4)]
        assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HRF(TR_S, "fir"), "'fir' is unknown"),
        (lambda: HRF(0), "tr_s 0"),
        (lambda: HRF(TR_S, span_s=40), "span_s 40"),
        (lambda: HRF(TR_S).convolve(np.zeros(50)), "1 dimensions"),
        (lambda: HRF(TR_S).convolve(np.zeros((10, 2))), "17 volumes do not fit a run of 10"),
        (
            lambda: evaluate(*data(), groups=range(4), hrf=HRF(TR_S), **OPTIONS),
            "give delays_tr=.0,.",
        ),
        (
            lambda: evaluate(
                *data(n_trs=16), groups=range(4), hrf=HRF(TR_S), **OPTIONS | {"delays_tr": (0,)}
            ),
            r"run 0 \(group 0\): delay 16 does not fit",
        ),
    ],
)
def test_bad_response_functions_are_named(make, words):
    with pytest.raises(CobeError, match=words):
        make()


def test_readout_is_chosen_inside_the_training_rows():
    """The readout that helps is read; one that knows only the held-out runs is not."""
    runs_x, runs_y = data()
    rng = np.random.default_rng(5)
    noise = [rng.standard_normal((80, 6)) for _ in runs_x]
    oracle = [rng.standard_normal((80, 4)) for _ in runs_x]
    oracle[0] = np.roll(runs_y[0], -1, axis=0)  # of group 0 alone it knows the answer
    readouts = {"noise": noise, "block": runs_x, "oracle": oracle}
    table = evaluate(readouts, runs_y, groups=range(4), **OPTIONS)
    assert set(table.readout) == {"block"}
    alone = evaluate(runs_x, runs_y, groups=range(4), **OPTIONS)
    assert_array_equal(alone.r, table.r)
    assert set(alone.readout) == {""}
    # each fold for itself: "a" is right in runs 0 and 1 only, "b" in runs 2 and 3 only
    a = [x if k < 2 else n for k, (x, n) in enumerate(zip(runs_x, noise_like(runs_x), strict=True))]
    b = [n if k < 2 else x for k, (x, n) in enumerate(zip(runs_x, noise_like(runs_x), strict=True))]
    groups = ["first", "first", "last", "last"]
    table = evaluate({"a": a, "b": b}, runs_y, groups=groups, **OPTIONS)
    chosen = table[table.summary == "mean"].set_index("held_out").readout
    assert chosen["first"] == "b" and chosen["last"] == "a" and chosen["all"] == "a,b"


def noise_like(runs):
    rng = np.random.default_rng(8)
    return [np.where(np.isnan(x), np.nan, rng.standard_normal(x.shape)) for x in runs]


def test_chance_keeps_the_chosen_readout_and_penalties():
    """Noise in three readouts: choosing among them does not make it significant."""
    rng, p = np.random.default_rng(3), []
    for seed in range(20):
        readouts = {
            k: [
                signal.lfilter([1], [1, -0.8], rng.standard_normal((100, 3)), axis=0)
                for _ in range(4)
            ]
            for k in "abc"
        }
        runs_y = [
            signal.lfilter([1], [1, -0.5], rng.standard_normal((100, 40)), axis=0) for _ in range(4)
        ]
        options = OPTIONS | {"n_permutations": 100, "block_trs": 20, "seed": seed}
        table = evaluate(readouts, runs_y, groups=range(4), **options)
        p.append(table.p[(table.held_out == "all") & (table.summary == "target")])
    assert 0.02 < (np.concatenate(p) <= 0.05).mean() < 0.09


def test_shared_penalty_is_the_best_on_average():
    runs_x, runs_y = data()
    alphas = [0.01, 1.0, 100.0, 1e4]
    options = {"groups": range(4), "dtype": np.float64} | OPTIONS
    shared = evaluate(runs_x, runs_y, **options | {"alphas": alphas}, alpha_per_target=False)
    for label in "0123":
        chosen = shared[(shared.held_out == label) & (shared.summary == "target")].alpha
        assert chosen.nunique() == 1
        single = evaluate(runs_x, runs_y, **options | {"alphas": chosen.iloc[:1].tolist()})
        found = [t[(t.held_out == label) & (t.summary == "target")].r for t in (shared, single)]
        assert_allclose(*found, atol=1e-6)
    # by hand for the fold that leaves run 0 out
    plan = make_plan(delays_tr=(1, 2), alphas=alphas, dtype=np.float64)
    loaded = load(runs_x, runs_y, list(range(4)), plan)
    x, y, run = next(fit_folds(loaded, plan)).x.numpy(), loaded.y.numpy(), loaded.split.run
    r2 = np.zeros((len(alphas), 4))
    for a, alpha in enumerate(alphas):
        error, total = np.zeros(4), np.zeros(4)
        for left in (1, 2, 3):
            train, test = np.isin(run, [k for k in (1, 2, 3) if k != left]), run == left
            model = Ridge(alpha=alpha).fit(x[train], y[train])
            error += ((y[test] - model.predict(x[test])) ** 2).mean(axis=0)
            total += ((y[test] - y[train].mean(axis=0)) ** 2).mean(axis=0)
        r2[a] = 1 - error / total
    chosen = shared[(shared.held_out == "0") & (shared.summary == "target")].alpha.iloc[0]
    assert chosen == alphas[r2.mean(axis=1).argmax()]


def test_bad_readouts_are_named():
    runs_x, runs_y = data()
    short = [x[:-1] for x in runs_x]
    for runs, words in (
        ({}, "no readout"),
        ({"a": runs_x, "b": runs_x[:3]}, "3 of features and 4 of responses"),
        ({"a": runs_x, "b": short}, "run 0 .*79 rows of features of b"),
    ):
        with pytest.raises(CobeError, match=words):
            evaluate(runs, runs_y, groups=range(4), **OPTIONS)
    with pytest.raises(CobeError, match="cannot be combined with a choice of readout"):
        evaluate(
            {"a": runs_x, "b": runs_x},
            runs_y,
            groups=range(4),
            bands={"one": slice(0, 6), "two": slice(6, 12)},
            **OPTIONS,
        )
