"""Key logs: against stable-retro's own reader, by round trips, and by damage."""

import io
import zipfile

import numpy as np
import pytest
import stable_retro as retro
from hypothesis import given, settings
from hypothesis import strategies as st

from cobe.core.errors import CobeError
from cobe.stimulus.bk2 import BUTTONS, MAX_MEMBER_BYTES, Movie, read_bk2

LETTERS = dict(zip(BUTTONS, "BAMSUDLRCYXZ", strict=True))
HEADER = "MovieVersion Retro\nPlatform GEN\nGameName Airstriker-Genesis-v0\nrerecordCount 1\n"


def log_text(buttons, columns=BUTTONS, key_prefix="LogKey:#Reset|Power|#", newline="\n"):
    lines = ["[Input]", key_prefix + "".join(f"P1 {name.title()}|" for name in columns)]
    for row in buttons:
        held = dict(zip(BUTTONS, row, strict=True))
        lines.append("|..|" + "".join(LETTERS[n] if held[n] else "." for n in columns) + "|")
    return newline.join([*lines, "[/Input]"])


def bk2_bytes(members) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def members(buttons=((False,) * 12,), **kwargs):
    return {
        "Header.txt": HEADER,
        "Input Log.txt": log_text(buttons, **kwargs),
        "Core.bin": b"state",
    }


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else bk2_bytes(content))
    return path


def test_equals_stable_retros_own_reader(tmp_path):
    env = retro.make(
        "Airstriker-Genesis-v0",
        use_restricted_actions=retro.Actions.ALL,
        render_mode="rgb_array",
        record=str(tmp_path),
    )
    env.reset()
    pressed = np.random.default_rng(0).random((40, 12)) < 0.4
    for row in pressed:
        env.step(row.astype(np.uint8))
    env.stop_record()
    env.close()
    path = tmp_path / "Airstriker-Genesis-v0-Level1-000000.bk2"

    movie = read_bk2(path)

    theirs = retro.Movie(str(path))
    rows = []
    while theirs.step():
        rows.append([theirs.get_key(i, 0) for i in range(12)])
    assert movie.game == theirs.get_game() == "Airstriker-Genesis-v0"
    assert movie.state == theirs.get_state()
    np.testing.assert_array_equal(movie.buttons, np.array(rows, bool))
    np.testing.assert_array_equal(movie.buttons[1:], pressed)
    assert movie.buttons.dtype == bool and movie.n_frames == 41


rows_of_buttons = st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1)


@settings(max_examples=60, deadline=None)
@given(
    buttons=rows_of_buttons,
    columns=st.permutations(BUTTONS),
    key_prefix=st.sampled_from(["", "LogKey:", "LogKey:#Reset|Power|#"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    state=st.binary(min_size=1),
)
def test_round_trip_in_any_column_order(
    tmp_path_factory, buttons, columns, key_prefix, newline, state
):
    content = members(buttons, columns=columns, key_prefix=key_prefix, newline=newline)
    path = write(tmp_path_factory.mktemp("bk2") / "a.bk2", content | {"Core.bin": state})
    movie = read_bk2(path)
    np.testing.assert_array_equal(movie.buttons, np.array(buttons, bool))
    assert (movie.game, movie.state, movie.path) == ("Airstriker-Genesis-v0", state, path)


@pytest.fixture(scope="module")
def damaged_path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "a.bk2"


WHOLE = bk2_bytes(members(np.eye(12, dtype=bool)))
edits = st.tuples(
    st.integers(0, len(WHOLE) - 1), st.integers(0, 2), st.binary(min_size=1, max_size=4)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(edits, min_size=1, max_size=4))
def test_damage_gives_a_movie_or_the_one_error(damaged_path, changes):
    content = bytearray(WHOLE)
    for at, kind, new in changes:
        at = min(at, len(content))
        if kind == 0:
            content[at : at + len(new)] = new
        elif kind == 1:
            content[at:at] = new
        else:
            del content[at:]
    damaged_path.write_bytes(content)
    try:
        movie = read_bk2(damaged_path)
    except CobeError as error:
        assert str(error).startswith(f"{damaged_path}: ") and "\n" not in str(error)
    else:
        assert isinstance(movie, Movie) and movie.buttons.shape[1] == 12


@pytest.mark.parametrize("n_bytes", [0, 1, 30, len(WHOLE) // 2, len(WHOLE) - 1])
def test_cut_short(tmp_path, n_bytes):
    with pytest.raises(CobeError, match="empty file|not a whole .bk2 zip"):
        read_bk2(write(tmp_path / "a.bk2", WHOLE[:n_bytes]))


@pytest.mark.parametrize("name", ["Header.txt", "Input Log.txt", "Core.bin"])
def test_missing_member(tmp_path, name):
    content = members()
    del content[name]
    with pytest.raises(CobeError, match=f"member '{name}' is missing"):
        read_bk2(write(tmp_path / "a.bk2", content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Header.txt": "Platform GEN\n"}, "names no game"),
        ({"Core.bin": b""}, "start state.* is empty"),
        ({"Input Log.txt": b""}, r"does not start with \[Input\]"),
        ({"Input Log.txt": b"[Input]"}, r"does not end with \[/Input\]"),
        ({"Input Log.txt": b"[Input]\n[/Input]"}, "12 buttons"),
        ({"Input Log.txt": log_text([])}, "holds no frame"),
        ({"Input Log.txt": log_text([(True,) * 12])[:-9]}, r"does not end with \[/Input\]"),
        ({"Input Log.txt": log_text([(True,) * 12], columns=BUTTONS[:11])}, "12 buttons"),
        ({"Input Log.txt": log_text([(True,) * 12]).replace("|BA", "|B")}, "line 3 has 16 char"),
        ({"Input Log.txt": log_text([(True,) * 12]).replace("|BA", "|AB")}, "line 3 has 'A' at"),
        ({"Input Log.txt": log_text([(True,) * 12]).replace("|..|", "|r.|")}, "line 3 has 'r' at"),
        ({"Input Log.txt": "[Input]\nP1 B|P2 B|\n|..|.|.|\n[/Input]"}, "two players"),
    ],
)
def test_bad_content(tmp_path, change, message):
    with pytest.raises(CobeError, match=message):
        read_bk2(write(tmp_path / "a.bk2", members() | change))


def test_zip_bomb_is_not_unpacked(tmp_path):
    content = members() | {"Core.bin": bytes(MAX_MEMBER_BYTES + 1)}
    path = write(tmp_path / "a.bk2", content)
    assert path.stat().st_size < 100_000
    with pytest.raises(CobeError, match="more than 64 MiB"):
        read_bk2(path)


def test_lying_size_is_caught(tmp_path):
    """A member that claims to be shorter than it is must not pass as whole."""
    content = bk2_bytes(members() | {"Core.bin": b"s" * 1000})
    at = content.rindex(b"PK\x01\x02")
    lie = content[: at + 24] + (10).to_bytes(4, "little") + content[at + 28 :]
    with pytest.raises(CobeError, match="not a whole .bk2 zip"):
        read_bk2(write(tmp_path / "a.bk2", lie))


def test_unusual_packing(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.bk2", "w", zipfile.ZIP_LZMA) as archive:
        for name, content in members().items():
            archive.writestr(name, content)
    with pytest.raises(CobeError, match="packed in an unusual way"):
        read_bk2(tmp_path / "a.bk2")


def test_absent_files_say_how_to_get_them(tmp_path):
    with pytest.raises(CobeError, match="no such file"):
        read_bk2(tmp_path / "none.bk2")
    with pytest.raises(CobeError, match="cannot be read"):
        read_bk2(tmp_path)
    (tmp_path / "link.bk2").symlink_to("../.git/annex/objects/none")
    with pytest.raises(CobeError, match="not downloaded; run: cd /.* && datalad get link.bk2"):
        read_bk2(tmp_path / "link.bk2")
    with pytest.raises(CobeError, match="git-annex pointer"):
        read_bk2(write(tmp_path / "pointer.bk2", b"/annex/objects/MD5E-s100--ab.bk2\n"))
