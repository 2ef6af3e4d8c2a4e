"""Which files the Hub stores by LFS: what .gitattributes says, and everything large."""

from fnmatch import fnmatch

LARGE_BYTES = 10_000_000
"""A file of this size is stored by LFS, whatever its name."""

_BY_LFS = "7z arrow bin bz2 gz h5 msgpack npy npz onnx parquet pb pickle pkl pt pth rar safetensors tar tgz xz zip zst"
_BY_LFS_TOO = {
    "model": "ckpt ftz gguf joblib mlmodel model ot tflite wasm",
    "dataset": "flac jpeg jpg lz4 mp3 mp4 ogg png wav",
}


def default_attributes(kind: str) -> bytes:
    """The .gitattributes of a new repository."""
    suffixes = [*_BY_LFS.split(), *_BY_LFS_TOO[kind].split()]
    return "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in suffixes).encode()


def is_stored_by_lfs(path: str, size: int, attributes: bytes) -> bool:
    if size >= LARGE_BYTES:
        return True
    name = path.rpartition("/")[2]
    lines = (line.split() for line in attributes.decode().splitlines())
    return any("filter=lfs" in line and fnmatch(name, line[0]) for line in lines)
