"""What the steps of a night hand one another, on moto's S3: bytes, claims, and archives."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from tickless.adapters.s3_training import S3TrainingFiles
from tickless.errors import ArtifactError, TrainingError
from tickless.learn import model_archive
from tickless.learn.model_archive import pack, unpack

NOW = datetime(2024, 6, 3, 2, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def files():
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="desk")
        yield S3TrainingFiles("desk", client)


def test_what_was_put_is_got_and_may_be_put_again(files):
    files.put("n/job.json", b"1")
    files.put("n/job.json", b"2")
    assert files.get("n/job.json") == b"2"
    with pytest.raises(TrainingError, match="s3://desk/training/n/other: no such object"):
        files.get("n/other")


def test_a_uri_leads_back_to_its_key_and_no_other_does(files):
    assert files.uri("n/bars/") == "s3://desk/training/n/bars/"
    assert files.key_of(files.uri("n/bars/")) == "n/bars/"
    for uri in ("s3://desk/models/x", "s3://other/training/x", "s3://desk/training/../models/x", "n/bars/"):
        with pytest.raises(ArtifactError, match="not below s3://desk/training/"):
            files.key_of(uri)


def test_a_night_belongs_to_the_first_execution_until_its_claim_ends(files):
    assert files.claim("n/claim.json", "one", NOW, NOW + HOUR)
    assert files.claim("n/claim.json", "one", NOW, NOW + HOUR), "a retry of the same execution"
    assert not files.claim("n/claim.json", "two", NOW + HOUR / 2, NOW + 2 * HOUR)
    assert files.claim("n/claim.json", "two", NOW + HOUR, NOW + 2 * HOUR)
    assert not files.claim("n/claim.json", "one", NOW + HOUR, NOW + 3 * HOUR)


def test_of_two_that_claim_at_once_one_wins(files, monkeypatch):
    objects = files._objects
    original = objects.get

    def late(key):
        found = original(key)
        monkeypatch.setattr(objects, "get", original)
        assert files.claim(key, "other", NOW, NOW + HOUR)
        return found

    monkeypatch.setattr(objects, "get", late)
    assert not files.claim("n/claim.json", "one", NOW, NOW + HOUR)


@given(st.dictionaries(st.sampled_from(["artifact.onnx", "manifest.json", "skipped.json"]), st.binary(max_size=300)))
def test_an_archive_holds_what_was_packed_the_same_twice(content):
    packed = pack(content)
    assert packed == pack(dict(reversed(content.items())))
    assert unpack(packed, frozenset(content)) == content


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for entry, body in entries:
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return content.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def test_sagemaker_s_archive_is_read_and_what_does_not_belong_is_left_alone():
    content = archive(
        (entry("./"), b""),
        (entry("./manifest.json"), b"{}"),
        (entry("../../etc/passwd"), b"x"),
        (entry("/artifact.onnx"), b"x"),
        (entry("artifact.onnx", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (entry("deep/manifest.json"), b"x"),
    )
    assert unpack(content, frozenset({"manifest.json", "artifact.onnx"})) == {"manifest.json": b"{}"}


@pytest.mark.parametrize("content", [b"", b"no archive", pack({"a": b"x" * 999})[:-20]])
def test_what_is_no_archive_is_refused(content):
    with pytest.raises(ArtifactError, match=r"model\.tar\.gz: cannot be read"):
        unpack(content, frozenset({"a"}))


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(model_archive, "MOST_BYTES", 1000)
    with pytest.raises(ArtifactError, match="unpacks to more than 1000 bytes"):
        unpack(pack({"a": b"0" * 600, "b": b"0" * 600}), frozenset({"a"}))
