"""Strategies for mistakes in files: bytes that change, and other things in the place of a file."""

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.fuzzing.case import HERE, Edit, Put, Step

_FAR = 2**20
SMALL = st.binary(max_size=40)
BYTES = st.one_of(
    SMALL,
    st.sampled_from(
        [b"\x00", b"\x00" * 100, b"\xff" * 64, b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b"\r\n", b'"', b"{", b"[" * 3000]
    ),
)


def words(text: str) -> list[str]:
    """The words of a text, which are two spaces apart."""
    return text.split("  ")


def edits(path: str) -> st.SearchStrategy[Edit]:
    """A change of the bytes of this file."""
    place = st.integers(0, _FAR)
    return st.one_of(
        st.builds(Edit, st.just(path), st.just("flip"), place, st.integers(0, 7)),
        st.builds(Edit, st.just(path), st.sampled_from(["overwrite", "insert"]), place, st.just(0), BYTES),
        st.builds(Edit, st.just(path), st.sampled_from(["cut", "drop", "copy"]), place, place),
    )


def instead(path: str, links: Sequence[str] = ()) -> st.SearchStrategy[Put]:
    """Something else in the place of this file. links: where a link may lead to, beside the usual places."""
    targets = [
        f"{HERE}/{path}",
        f"{HERE}/nothing",
        HERE,
        f"{HERE}/elsewhere",
        "/dev/null",
        "/dev/full",
        "/proc/self/mem",
        *links,
    ]
    return st.one_of(
        st.builds(Put, st.just(path), st.sampled_from(["nothing", "folder", "fifo"])),
        st.builds(Put, st.just(path), st.just("file"), BYTES),
        st.builds(Put, st.just(path), st.just("link"), st.sampled_from([target.encode() for target in targets])),
    )


def mistakes(path: str) -> st.SearchStrategy[Step]:
    return st.one_of(edits(path), edits(path), edits(path), instead(path))
