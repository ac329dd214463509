"""Our safetensors files against the format's own implementation.

Usage: python3 test_safetensors_python.py TEST_SAFETENSORS

Both directions are compared bit by bit, then the verdicts on thousands of damaged files: whatever our
reader accepts, the format's own must accept too.

Exit status 77: no Python with safetensors and numpy was found.
"""

import os
import random
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import safetensors
    import safetensors.numpy
except ImportError:
    # Another Python of this machine may have them.
    tried = os.environ.get("SLOPE_PYTHONS_TRIED", "").split(os.pathsep)
    tried.append(os.path.realpath(sys.executable))
    os.environ["SLOPE_PYTHONS_TRIED"] = os.pathsep.join(tried)
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        other = os.path.join(directory, "python3")
        if os.access(other, os.X_OK) and os.path.realpath(other) not in tried:
            tried.append(os.path.realpath(other))
            os.environ["SLOPE_PYTHONS_TRIED"] = os.pathsep.join(tried)
            os.execv(other, [other, *sys.argv])
    print("skipped: no python3 on the path has safetensors and numpy")
    sys.exit(77)


def sample():
    special = [0, -0.0, 1.5, -2.25, np.inf, -np.inf, np.nan, 1e-45, -1.2e-38, 3.4e38]
    floats = np.array([*special, 1 / 3, 7, 8, 9, 10], np.float32)
    ints = np.array([0, -1, 2**31 - 1, -(2**31), 5, 6], np.int32)
    small = np.array([0, 128, 255], np.uint8)
    return {
        "dense/weight": floats.reshape(3, 5),
        "bytes": small,
        "doubles": np.array([1 / 3, -1e300]),
        "ints": ints.reshape(1, 2, 3, 1),
        "longs": np.array([[-(2**63)], [2**63 - 1]], np.int64),
        "scalar": np.array(1.5, np.float32),
        "empty": np.zeros((4, 0, 2), np.float32),
        'na"me\\ \n\u00e9\U0001f600': ints[2:3],
        "": np.array(128, np.uint8),
    }


METADATA = {
    "model": "dense128 act dense10",
    "empty": "",
    'qu"ote\\\t': "line\nline \u20ac \x01 \x7f",
    "a": "sorted last",
}


def same(ours, theirs):
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


def check_reading(program, path):
    """C writes, Python reads."""
    subprocess.run([program, "write", path], check=True)
    expected = sample()
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == METADATA, file.metadata()
        assert set(file.keys()) == set(expected), list(file.keys())
        for name, array in expected.items():
            assert tuple(file.get_slice(name).get_shape()) == array.shape, name
    loaded = safetensors.numpy.load_file(path)
    for name, array in expected.items():
        assert same(array, loaded[name]), name


def check_writing(program, path):
    """Python writes, C reads."""
    safetensors.numpy.save_file(sample(), path, metadata=METADATA)
    subprocess.run([program, "check", path], check=True)
    changed = sample()
    changed["ints"] = changed["ints"] + 1
    safetensors.numpy.save_file(changed, path, metadata=METADATA)
    assert subprocess.run([program, "check", path], stdout=subprocess.PIPE, check=False).returncode == 1
    half = sample()
    half["half"] = np.zeros(2, np.float16)
    safetensors.numpy.save_file(half, path)
    refusal = subprocess.run([program, "check", path], stdout=subprocess.PIPE, check=False)
    assert refusal.returncode == 1 and b"type F16" in refusal.stdout, refusal.stdout


def damaged(good, count):
    """Variants of a header: characters and whole tokens changed, removed, inserted. The data stays."""
    draw = random.Random(20240229)
    (length,) = struct.unpack("<Q", good[:8])
    header, data = good[8 : 8 + length], good[8 + length :]
    tokens = [b'"', b"{", b"}", b"[", b"]", b",", b":", b" ", b"0", b"1", b"7", b"-", b".5", b"e1", b"\\"]
    tokens += [b"\\u0000", b"\\u0041", b"\xff", b"\xc3\xa9", b"\x00", b"\x0c", b"null", b"true", b'"a"']
    tokens += [b"F32", b"U8", b"I64", b"[0,0]", b"{}", b'"__metadata__":{}']
    tokens += [b'"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},']
    for _ in range(count):
        text = bytearray(header)
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            at = draw.randrange(len(text))
            kind = draw.randrange(4)
            if kind == 0:
                text[at : at + 1] = draw.choice(tokens)
            elif kind == 1:
                text[at:at] = draw.choice(tokens)
            elif kind == 2:
                del text[at : at + draw.randrange(1, 4)]
            else:
                text[at] = draw.randrange(256)
        yield struct.pack("<Q", len(text)) + bytes(text) + data


def accepted_by_format(content):
    try:
        safetensors.deserialize(content)
        return True
    except Exception:  # any refusal counts
        return False


def check_verdicts(program, path):
    """What C accepts, the format's own reader accepts, and the other way round but for two cases."""
    small = {name: array for name, array in sample().items() if name in ("bytes", "doubles", "empty")}
    # One key of metadata, because the order of several varies from run to run.
    good = safetensors.numpy.save(small, metadata={"model": "dense10"})
    contents = [good, *damaged(good, 20000)]
    with open(path, "wb") as file:
        for content in contents:
            file.write(struct.pack("<I", len(content)) + content)
    verdicts = subprocess.run([program, "verdicts", path], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert len(verdicts) == len(contents) and verdicts[0] == "1", len(verdicts)
    stricter = 0
    for verdict, content in zip(verdicts, contents):
        theirs = accepted_by_format(content)
        assert theirs or verdict != "1", ("accepted here, refused by safetensors", content)
        if theirs and verdict == "0":
            # Only a NUL in a string and a key that the format does not know are refused by C alone.
            named = b"\\u0000" in content or b'"x"' in content
            assert named, ("refused here, accepted by safetensors", content)
            stricter += 1
    print(f"{len(contents)} files: {verdicts.count('1')} accepted, {stricter} refused by C alone")
    assert verdicts.count("1") > 100, "the damage leaves too little to compare"


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        check_reading(program, path)
        check_writing(program, path)
        check_verdicts(program, path)


if __name__ == "__main__":
    main()
