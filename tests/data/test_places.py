"""Places elsewhere: what is shown of them, and how they are read and written. Servers here stand for them."""

import gc
import io
import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from aecli import files
from aecli.data import fetched, http, opening
from aecli.data.places import Place, hidden, place, shown
from aecli.errors import PlaceError, UsageError

TEXT = "".join(f"{i},{i * i % 97},{i % 7}\n" for i in range(1, 400))
CSV = f"a,b,c\n{TEXT}".encode()


@pytest.fixture
def small_blocks(monkeypatch):
    """Files of some kilobytes take many requests."""
    for name, value in {"START_BYTES": 100, "BLOCK_BYTES": 500}.items():
        for module in (fetched, http):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    from aecli.data import buckets

    monkeypatch.setattr(buckets, "START_BYTES", 100)
    monkeypatch.setattr(http, "WAITS", (0.01, 0.01, 0.01))


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://me:p%40ss/w:ord@host:8080/a/b.csv?sig=1#x", "https://host:8080/a/b.csv"),
        ("https://me@corp:p?s#s@host/a.csv?x", "https://host/a.csv"),
        ("https://host/a b.csv?X-Amz-Signature=1/2@3", "https://host/a b.csv"),
        ("s3://key:secret@bucket/a.csv?endpoint_override=x", "s3://bucket/a.csv"),
        ("s3://bucket/day-?/part-*.csv", "s3://bucket/day-?/part-*.csv"),
        ("gs://bucket/a@b:c/d.csv", "gs://bucket/a@b:c/d.csv"),
        ("a/b.csv?x", "a/b.csv?x"),
    ],
)
def test_of_a_url_no_user_no_password_and_no_query_is_shown(url, seen):
    assert shown(url) == seen
    assert hidden(f"read {url.replace(' ', '%20')}") == f"read {seen.replace(' ', '%20')}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "s3://key:secret@bucket/a.csv",
            "s3://bucket/a.csv: s3:// takes a bucket and a key, and there is a user or a query",
        ),
        (
            "s3://bucket/a.csv?versionId=secret",
            "s3://bucket/a.csv: s3:// takes a bucket and a key, and there is a user or a query",
        ),
        ("s3:///a.csv", "s3:///a.csv: no bucket"),
        (
            "s3://bucket/in//a.csv",
            "s3://bucket/in//a.csv: a key with //, /./ or /../ cannot be accessed",
        ),
        ("s3://bucket//a.csv", "s3://bucket//a.csv: a key with //, /./ or /../ cannot be accessed"),
        ("s3://bucket/./a.csv", "s3://bucket/./a.csv: a key with //, /./ or /../ cannot be accessed"),
        ("https://[::1/a.csv", "https://[::1/a.csv: [::1 is not a host name"),
        ("https://me:secret@host:99999/a.csv", "https://host:99999/a.csv: host:99999 is not a host name"),
        ("https://h ost/a.csv", "https://h ost/a.csv: h ost is not a host name"),
        (
            "http://me:secret@host/a.csv",
            "http://host/a.csv: http:// is not encrypted, and allowed only for this machine",
        ),
        (
            "http://localhost.evil.org/a",
            "http://localhost.evil.org/a: http:// is not encrypted, and allowed only for this machine",
        ),
    ],
)
def test_a_url_that_makes_no_sense_is_bad_usage(url, said):
    with pytest.raises(UsageError) as error:
        place(url)
    assert error.value.message == said


def test_a_place_answers_as_a_path_does():
    found = Place("s3://bucket/a/rows.csv.gz")
    assert (found.name, found.stem, found.suffix) == ("rows.csv.gz", "rows.csv", ".gz")
    assert (str(found.parent), str(found.parent.parent.parent)) == ("s3://bucket/a", "s3://bucket")
    assert str(found.parent / "b.csv") == str(found.with_name("b.csv")) == "s3://bucket/a/b.csv"
    assert Place("https://u:p@host/a%20b.csv?sig=x").name == "a b.csv"


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.usefixtures("small_blocks")
def test_a_file_comes_whole_whatever_breaks_on_the_way(web, ranges):
    web.files["a.csv"], web.ranges = CSV, ranges
    for faults in ([], [503], ["drop"], [503, "drop", 500], [None, "drop", 503]):
        web.faults[:] = faults
        with place(web.url("a.csv")).open() as file:
            assert file.read() == CSV


@pytest.mark.usefixtures("small_blocks")
def test_a_server_that_stays_broken_is_an_error_after_four_tries(web):
    web.faults[:] = [503] * 9
    with pytest.raises(PlaceError) as error:
        place(web.url("a.csv?sig=secret")).exists()
    assert error.value.message == f"http://{web.host}/a.csv: no answer after 4 tries (HTTP 503)"
    assert len(web.asked) == 4


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_changes_while_it_is_read_is_an_error(web, ranges, monkeypatch):
    monkeypatch.setattr(fetched, "READERS", 1)
    web.files["a.csv"], web.ranges = CSV, ranges
    found = place(web.url("a.csv"))
    assert found.exists()
    web.version = '"2"'
    with pytest.raises(PlaceError, match=r"a\.csv: changed while it was read"), found.open() as file:
        file.read()


@pytest.mark.usefixtures("small_blocks")
def test_an_object_that_changes_while_it_is_read_is_an_error(bucket):
    bucket["a.csv"] = CSV
    found = place(bucket.url("a.csv"))
    with found.open() as file:
        assert file.read(50) == CSV[:50]
        bucket["a.csv"] = CSV[::-1]
        with pytest.raises(PlaceError, match=r"a\.csv: changed while it was read"):
            file.read()


def test_of_a_parquet_file_only_what_is_asked_for_is_fetched(web):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=100_000), "b": rng.normal(size=100_000), "c": rng.normal(size=100_000)})
    made = io.BytesIO()
    pq.write_table(table, made, compression="none", use_dictionary=False)
    web.files["a.parquet"] = made.getvalue()
    read = opening.open_table(place(web.url("a.parquet")))
    got = np.concatenate([piece.columns[0].to_numpy() for piece in read.pieces([("b", "number")])])
    assert np.array_equal(got, table["b"].to_numpy())
    sizes = [int(end) - int(start) + 1 for _, asked in web.asked for start, end in [asked[6:].split("-")]]
    assert sum(sizes) < len(made.getvalue()) / 2


def test_a_server_without_ranges_gives_a_parquet_file_once(web):
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = io.BytesIO()
    pq.write_table(pa.table({"a": [1.0, 2.0]}), made)
    web.files["a.parquet"], web.ranges = made.getvalue(), False
    assert opening.open_table(place(web.url("a.parquet"))).rows == 2


def test_a_user_goes_to_the_host_that_was_named_and_to_no_other(web):
    import elsewhere

    other = elsewhere.Web()
    try:
        web.user, other.user = "me:p@ss/word", "me:p@ss/word"
        web.files["a.csv"] = other.files["a.csv"] = CSV
        web.redirects = {"here": "/a.csv", "there": other.url("a.csv"), "open": "ftp://127.0.0.1/a.csv"}
        named = f"http://me:p%40ss/word@{web.host}"
        assert place(f"{named}/a.csv").contents().read() == CSV
        assert place(f"{named}/here").contents().read() == CSV
        with pytest.raises(PlaceError, match="access is denied"):
            place(f"{named}/there").exists()
        with pytest.raises(PlaceError, match=r"redirected to ftp://, and only https:// is followed"):
            place(f"{named}/open").exists()
    finally:
        other.close()


def test_a_query_is_sent_as_it_is(web):
    web.files["a b.csv"] = web.files["a%20b.csv"] = CSV
    assert place(web.url("a b.csv?sig=a%2Fb+c&x=é")).exists()
    assert web.asked[-1][0] == "a%20b.csv?sig=a%2Fb+c&x=%C3%A9"


def test_an_empty_file_is_empty(web, bucket):
    web.files["a.csv"] = bucket["a.csv"] = b""
    bucket["a.csv"] = b""
    for url in (web.url("a.csv"), bucket.url("a.csv")):
        with place(url).open() as file:
            assert file.read() == b""


def test_objects_are_found_by_folders_and_by_patterns(bucket):
    for key in ("in/day-1/a.csv", "in/day-2/a.csv", "in/day-2/b.txt", "in/day-10/deep/a.csv", "other.csv"):
        bucket[key] = CSV
    found = [str(each) for each in place(bucket.url("in/day-*/*.csv")).expanded()]
    assert found == [bucket.url("in/day-1/a.csv"), bucket.url("in/day-2/a.csv")]
    assert place(bucket.url("in/day-?/a.*")).expanded() == place(bucket.url("in/day-[12]/*.csv")).expanded()
    assert [each.key for each in place(bucket.url("in/day-2")).files()] == ["in/day-2/a.csv", "in/day-2/b.txt"]
    assert place(bucket.url("in")).is_dir()
    assert not place(bucket.url("i")).exists()


def test_a_file_that_has_the_very_name_of_a_pattern_is_that_one(bucket):
    for key in ("a[1].csv", "a1.csv", "b?.csv"):
        bucket[key] = CSV
    assert [each.key for each in place(bucket.url("a[1].csv")).expanded()] == ["a[1].csv"]
    assert [each.key for each in place(bucket.url("a[1]*")).expanded()] == ["a1.csv"]
    assert [each.key for each in place(bucket.url("b?.csv")).expanded()] == ["b?.csv"]


def test_a_folder_is_found_beside_a_file_of_its_name(bucket):
    bucket["a"] = bucket["a/b.csv"] = bucket["lone"] = CSV
    assert [place(bucket.url(name)).is_dir() for name in ("a", "a/", "lone/")] == [False, True, False]
    assert [each.key for each in place(bucket.url("a/")).files()] == ["a/b.csv"]


def test_a_place_is_the_same_however_its_scheme_is_written():
    assert {Place("S3://bucket/a"), Place("s3://bucket/a/")} == {Place("s3://bucket/a")}
    assert Place("https://host/a?x=1") != Place("https://host/a?x=2")


def test_a_bucket_that_gives_no_answer_is_an_error_whatever_its_name(monkeypatch):
    import elsewhere

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        for name, value in (elsewhere.KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free.getsockname()[1]}"}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(PlaceError, match="no answer"):
            place("s3://access-logs/a.csv").check_writable()


def test_to_know_an_object_s_version_is_one_request_and_nothing_of_it_is_kept(bucket, monkeypatch):
    from aecli.data import buckets

    bucket["a.csv"] = CSV
    files, opened = buckets._s3(bucket.name)._files, []

    class Counted:
        def open_input_file(self, path):
            opened.append(path)
            return files.open_input_file(path)

    monkeypatch.setattr(buckets, "_s3", lambda _: buckets.Bucket(Counted()))
    known = place(bucket.url("a.csv"))
    assert (known.size, known.version is not None, len(opened)) == (len(CSV), True, 1)
    assert known._head.start == b""
    assert known.open().read() == place(bucket.url("a.csv")).contents().read() == CSV
    bucket["b.csv"] = CSV
    other = place(bucket.url("b.csv"))
    assert other.exists()
    bucket["b.csv"] = CSV[::-1]
    with pytest.raises(PlaceError, match="changed while it was read"):
        other.open()


def test_a_write_is_there_when_it_is_whole_and_not_before(bucket):
    target = place(bucket.url("out/a.bin"))
    data = os.urandom(11 << 20)  # more than one part of an upload
    with files.replacing(target) as stream:
        stream.write(b"x" + data[1:])
        assert list(bucket) == []
        stream.seek(0)
        stream.write(data[:1])
    assert bucket["out/a.bin"] == data


@pytest.mark.parametrize("size", [10, 25 << 20])
def test_a_write_that_fails_leaves_what_was_there(bucket, size):
    bucket["a.bin"] = b"before"

    def write(target, *, at):
        with files.replacing(target) as stream:
            stream.write(bytes(size))
            if at == "made":
                raise KeyboardInterrupt
        return target

    with pytest.raises(KeyboardInterrupt):
        write(place(bucket.url("a.bin")), at="made")
    assert bucket["a.bin"] == b"before"

    class Interrupted(io.RawIOBase):
        def __init__(self):
            self.left = size

        def read(self, count=-1):
            if not self.left:
                raise KeyboardInterrupt
            taken = min(count, self.left)
            self.left -= taken
            return bytes(taken)

    target = place(bucket.url("a.bin"))
    with pytest.raises(KeyboardInterrupt), target._store.uploading(target) as send:
        send(Interrupted())
    gc.collect()
    assert bucket["a.bin"] == b"before"


def test_no_room_for_an_output_is_an_error(bucket):
    target = place(bucket.url("a.bin"))
    with pytest.raises(PlaceError) as error, files.replacing(target):
        raise OSError(28, "No space left on device")
    assert error.value.message.startswith(f"{target}: no room for it in /")
    assert list(bucket) == []


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_refused_before_any_work():
    for url in ("s3://no-such-bucket/a.csv", "s3://no-such-bucket"):
        with pytest.raises(PlaceError) as error:
            place(url).exists()
        assert error.value.message == f"{url}: there is no bucket no-such-bucket"
    with pytest.raises(PlaceError, match="there is no bucket"):
        place("s3://no-such-bucket/a.csv").check_writable()
    with pytest.raises(UsageError, match="https:// is read-only"):
        place("https://host/a.csv").check_writable()


def test_google_s_buckets_are_reached_through_pyarrow(monkeypatch):
    from pyarrow import fs

    from aecli.data import buckets

    local = fs.SubTreeFileSystem(str(Path.cwd()), fs.LocalFileSystem())  # stands for Google, which nothing here does
    monkeypatch.setattr(buckets, "_gcs", lambda: buckets.Bucket(local))
    Path("bucket").mkdir()
    with files.replacing(place("gs://bucket/a.csv")) as stream:
        stream.write(CSV)
    with place("gs://bucket/a.csv").open() as file:
        assert file.read() == CSV
    assert [str(each) for each in place("gs://bucket/*.csv").expanded()] == ["gs://bucket/a.csv"]
    monkeypatch.undo()
    assert isinstance(buckets._gcs()._files, fs.GcsFileSystem)


@pytest.mark.usefixtures("small_blocks")
def test_no_thread_is_left_of_a_file_that_was_not_read_to_its_end(web):
    web.files["a.csv"] = CSV * 20
    before = threading.active_count()
    with place(web.url("a.csv")).open() as file:
        assert file.read(5000) == (CSV * 20)[:5000]
    del file
    for _ in range(100):
        if threading.active_count() <= before + 1:
            break
        threading.Event().wait(0.02)
    assert sum(thread.name.startswith("ThreadPool") for thread in threading.enumerate()) == 0
