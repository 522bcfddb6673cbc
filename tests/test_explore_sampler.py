import numpy as np
import pytest

from cobe.core.errors import CobeError
from cobe.explore.sampler import next_clip_sampler
from cobe.report.style import PaperFigure
from shown_widgets import axes_of, controls, enlarged, planted_clips, shown, words

LABELS = ["window a", "window b", "window c"]


def planted(n_hot=2):
    context, truth = planted_clips(seed=1), planted_clips(seed=2)
    # the second window goes on as its context ended
    truth[1] = context[1, -1]
    samples = {
        "greedy": truth[:, None],
        "hot": np.stack([planted_clips(seed=k) for k in range(3, 3 + n_hot)], axis=1),
    }
    return context, truth, truth // 2, samples, LABELS


def test_frames_of_the_window_and_temperature_are_shown_side_by_side():
    context, truth, rebuilt, samples, _ = given = planted()
    box = next_clip_sampler(*given, True, live=True)
    assert list(shown(box)) == [
        "context (what the model saw)",
        "what came next",
        "the same, rebuilt from tokens",
        "greedy, sample 1",
    ]
    controls(box)["window"].value, controls(box)["frame"].value = 2, 9
    controls(box)["tokens drawn"].value = "hot"
    pictures = shown(box)
    for title, film in {
        "context (what the model saw)": context[2],
        "what came next": truth[2],
        "the same, rebuilt from tokens": rebuilt[2],
        "hot, sample 1": samples["hot"][2, 0],
        "hot, sample 2": samples["hot"][2, 1],
    }.items():
        assert (pictures.pop(title)[0] == enlarged(film[9])).all()
    assert not pictures
    controls(box)["tokens drawn"].value = "greedy"
    assert len(shown(box)) == 4


def test_each_clip_is_told_against_what_came_next():
    context, truth, rebuilt, samples, _ = given = planted()
    box = next_clip_sampler(*given, True, live=True)

    def psnr(window, clip):
        return 10 * np.log10(255**2 / ((truth[window].astype(float) - clip) ** 2).mean())

    assert "came next: greedy equal; rebuilt from the right tokens" in words(box)
    assert f"right tokens {psnr(0, rebuilt[0]):.1f} dB" in words(box)
    assert f"standing still {psnr(0, context[0, -1]):.1f} dB" in words(box)
    controls(box)["tokens drawn"].value = "hot"
    first, second = (f"{psnr(0, clip):.1f} dB" for clip in samples["hot"][0])
    assert f"hot {first}, {second};" in words(box)
    controls(box)["window"].value = 1
    assert "standing still equal" in words(box)


def test_the_still_is_of_the_window_that_moves_most():
    context, truth, _, samples, _ = given = planted(n_hot=3)
    figure = next_clip_sampler(*given, True, live=False)
    assert isinstance(figure, PaperFigure)
    still = [((truth[i].astype(float) - context[i, -1]) ** 2).mean() for i in range(3)]
    most = int(np.argmax(still))
    assert figure.texts[0].get_text().startswith(f"simulated data; {LABELS[most]} (of 3 windows")
    image = axes_of(figure, "row 4 frame 15").images[0].get_array()
    assert (np.asarray(image) == samples["hot"][most, 0, 15]).all()
    labels = [text.get_text().split("\n")[0] for text in figure.texts[1:]]
    assert labels[-3:] == ["greedy, sample 1", "hot, sample 1", "hot, sample 2"]


def test_samples_that_do_not_fit_are_refused():
    context, truth, rebuilt, samples, labels = planted()
    for bad, message in [
        ((context, truth[:, :8], rebuilt, samples, labels), r"truth: \(3, 8, .*, beside \(3, 16"),
        ((context, truth, rebuilt, {}, labels), "samples: none"),
        ((context, truth, rebuilt, {"hot": samples["hot"][:2]}, labels), "samples 'hot': uint8"),
        ((context, truth, rebuilt, {"hot": samples["hot"][:, :0]}, labels), "samples 'hot'"),
        ((context, truth, rebuilt, {"hot": samples["hot"][:, 0]}, labels), "n_samples"),
        ((context, truth, rebuilt, samples, labels[:1]), "labels: 1 for 3"),
    ]:
        with pytest.raises(CobeError, match=message):
            next_clip_sampler(*bad, True, live=False)
