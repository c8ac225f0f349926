"""Credentials are found by shape and in the environment, ordinary text stays, and what is published names no place.

The credentials here are invented; they are put together from pieces so that no scanner takes them for real ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luthier.core.errors import DataError, Problem, RecipeError
from luthier.core.recipe import Recipe
from luthier.core.redact import HIDDEN, holds_secret, published, redact, redacted
from luthier.core.run import EventLog, RunFolder

MIXED = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"

SECRETS = {
    "login in a URL": ("https://{}@example.org/x.jsonl", "jane:hunter-two"),
    "login with an at sign": ("ftp://{}@example.org/x", "jane:pa@ss@word"),
    "token as a URL's user": ("https://{}@example.org/x.git", "tok" + MIXED),
    "token in a query": ("https://example.org/x?split=a&token={}&b=1", "abc"),
    "key in a query": ("GET https://example.org/?api_key={} failed", "0f3e"),
    "token in a fragment": ("https://example.org/#access_token={}", "abcdef"),
    "signed for S3": ("https://b.s3.amazonaws.com/x?X-Amz-Date=1&X-Amz-Signature={}&X-Amz-Expires=3", "9f" * 32),
    "credential for S3": ("https://b.s3.amazonaws.com/x?X-Amz-Credential={}&a=1", "K1%2F2026%2Fus-east-1"),
    "signed for Google": ("https://storage.googleapis.com/b/x?X-Goog-Signature={}", "ab12" * 8),
    "signed for Azure": ("https://a.blob.core.windows.net/c/x?sv=2026&sig={}", "c2ln%2Bnat%3D"),
    "signed for CloudFront": ("https://cdn.example.org/x?Expires=1&Signature={}&a=b", "Zm9v~YmFy-"),
    "connection string": ("host=db.example.org password={} port=5432", "swordfish1"),
    "Hugging Face": ("Invalid token {} given", "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh"),
    "GitHub": ("remote: {}", "gh" + "p_" + MIXED),
    "GitHub, fine-grained": ("{}", "github" + "_pat_" + "11ABCDEFG0" + "_" + MIXED),
    "GitLab": ("with {}.", "gl" + "pat-" + MIXED[:20]),
    "OpenAI": ("key {} is revoked", "s" + "k-proj-" + MIXED),
    "Slack": ("({})", "xo" + "xb-123456789012-abcdefghij"),
    "AWS": ("AccessKeyId {}, region", "AK" + "IA" + "ABCDEFGHIJ234567"),
    "Google": ("'{}'", "AI" + "za" + (MIXED + "x" * 9)[:35]),
    "Stripe": ("{}", "sk" + "_live_" + MIXED[:24]),
    "npm": ("//registry/:_authToken={}", "np" + "m_" + MIXED),
    "bearer": ("Authorization: Bearer {}", "abc.def~123/ghi+jkl4=="),
    "basic": ("'authorization': 'Basic {}'", "amFuZTpzd29yZGZpc2g="),
    "JSON web token": ("got {} here", "ey" + "JhbGciOiJIUzI1NiJ9." + "ey" + "JzdWIiOiIxMjM0In0." + "c2lnbmF0dXJl"),
    "private key": (
        "read:\n{}\nend",
        "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEow\n+ab/c=\n-----END RSA PRIVATE " + "KEY-----",
    ),
    "half of a private key": ("read:\n{}", "-----BEGIN PRIVATE " + "KEY-----\nMIIEow"),
}

ORDINARY = (
    "https://huggingface.co/org/name/tree/main?not=secret",
    "ssh://git@github.com/org/name",
    "write to jane@example.org, or see https://example.org/@jane",
    "the 3 tokens of <|im_end|>; token=1 in a sentence",
    "sk-learn-compatible-pipelines-are-fine",
    "task-2024-classification-of-long-names-1",
    "hf_transfer is not installed",
    "AKIAN is a name and AKIA an abbreviation",
    "the bearer of this message authenticates by himself-and-nobody-else",
    "password=None, password=null",
    "-----BEGIN CERTIFICATE-----\nMIIEow\n-----END CERTIFICATE-----",
    "eyJust a word",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "max_length=96&epochs=2",
    "phases.0.adaptation.lora.rank: 'eight' does not fit here",
    "xoxo, the team",
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_credential_of_a_known_shape_goes_and_the_words_around_it_stay(name: str) -> None:
    around, secret = SECRETS[name]
    shown = redact(around.format(secret))
    assert secret not in shown
    assert shown == around.format(HIDDEN)
    assert redact(shown) == shown
    assert holds_secret(around.format(secret))
    assert not holds_secret(shown)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text
    assert not holds_secret(text)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HF_TOKEN", "n0t-a-known-shape"),
        ("MY_SERVICE_SECRET", "swordfish plus one"),
        ("PGPASSWORD", "tr0ub4dor"),
        ("WANDB_API_KEY", "0123456789abcdef" * 2),
        ("AWS_SECRET_ACCESS_KEY", "/wJalrXUtnFEMI/K7MDENG+bPxRfiCY"),
        ("DB_PASSPHRASE", "correct horse battery staple"),
        ("GOOGLE_CREDENTIALS", '{"type": "service_account", "id": "17"}'),
    ],
)
def test_the_value_of_a_variable_that_is_named_as_secret_goes(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert redact(f"the server said: {value} is unknown") == f"the server said: {HIDDEN} is unknown"
    assert value not in redact(f"https://example.org/{value}/x")


def test_a_secret_goes_in_the_form_that_a_url_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "with space/and=more")
    assert redact("GET /x/with%20space%2Fand%3Dmore/y") == f"GET /x/{HIDDEN}/y"


def test_the_password_of_a_proxy_goes_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://jane:swordfish-nine@proxy.example.org:3128")
    assert redact("proxy refused swordfish-nine") == f"proxy refused {HIDDEN}"
    assert redact("proxy.example.org refused") == "proxy.example.org refused"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KEYBOARD_LAYOUT", "german-qwertz"),
        ("TOKENIZERS_PARALLELISM", "disabled-here"),
        ("SSH_KEY", os.path.expanduser("~/.ssh/id_ed25519")),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/tmp/absent/account.json"),
        ("SORT_KEY", "created_at"),
        ("USE_TOKEN", "disabled"),
        ("LICENSE_KEY", "short"),
        ("PATH", "/usr/bin:/usr/local/bin"),
        ("MONKEY", "chimpanzee-1"),
    ],
)
def test_settings_and_paths_of_the_environment_are_no_secrets(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert redact(f"see {value} there") == f"see {value} there"


def test_plain_values_are_redacted_throughout() -> None:
    secret = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh"
    value = {secret: [1, None, (f"x {secret}", 2.5)], "n": True}
    assert redacted(value) == {HIDDEN: [1, None, [f"x {HIDDEN}", 2.5]], "n": True}


# ---- the doors -------------------------------------------------------------------------------------------------------


def test_an_error_has_no_credential_in_any_of_its_words() -> None:
    url = "https://jane:swordfish@example.org/x"
    error = DataError(f"found {url}", where=url, expected=url, remedy=url)
    several = DataError([Problem(url), Problem("b", url)])
    assert "swordfish" not in str(error) + repr(error.problems) + str(several) + repr(several.args)
    assert f"found https://{HIDDEN}@example.org/x" in str(error)


def test_events_and_listeners_get_no_credential(tmp_path: Path) -> None:
    heard: list[object] = []
    log = EventLog(tmp_path / "events.jsonl", (heard.append,))
    log("warning", text="GET https://example.org/x?token=abcdef failed", more={"deep": ["password=swordfish"]})
    log.close()
    assert "abcdef" not in (tmp_path / "events.jsonl").read_text() + str(heard)
    assert "swordfish" not in (tmp_path / "events.jsonl").read_text() + str(heard)


def test_the_manifest_gets_no_credential_and_keeps_the_names_of_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASE_KEY", "sft-2026-11")
    folder = RunFolder(tmp_path)
    folder.update_manifest(inputs={"https://jane:swordfish@example.org/x": {"rows": 3}}, note="sft-2026-11")
    folder.update_manifest(stages={"train": {"key": "k", "outputs": ["sft-2026-11/x"]}})
    text = folder.manifest_path.read_text()
    assert "swordfish" not in text
    assert f'"note": "{HIDDEN}"' in text
    (tmp_path / "sft-2026-11").mkdir()
    (tmp_path / "sft-2026-11" / "x").touch()
    assert folder.finished("train", "k")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"model": "https://jane:swordfish@example.org/model"}, "model"),
        ({"data": {"train": ["a.jsonl", "https://example.org/x.jsonl?token=abcdef"]}}, "data.train.1.path"),
        ({"about": "made with hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh"}, "about"),
    ],
)
def test_a_recipe_that_holds_a_credential_is_refused_with_the_place_and_the_way_to_give_it(
    change: dict[str, object], place: str
) -> None:
    value = {"name": "t", "model": "embedded:nano", "data": {"train": "a.jsonl"}} | change
    with pytest.raises(RecipeError) as caught:
        Recipe.of(value)
    problem = next(problem for problem in caught.value.problems if "credential" in problem.found)
    assert problem.where == place
    assert problem.remedy is not None
    assert "HF_TOKEN" in problem.remedy
    assert "hf auth login" in problem.remedy
    assert "swordfish" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_a_recipe_that_holds_the_token_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "plain-looking-0123456789")
    with pytest.raises(RecipeError, match="credential"):
        Recipe.of({"name": "t", "model": "org/plain-looking-0123456789", "data": {"train": "a.jsonl"}})
    monkeypatch.setenv("HF_TOKEN", "embedded:nano")  # a short or wordlike value is no ground to refuse a recipe
    Recipe.of({"name": "t", "model": "embedded:nano", "data": {"train": "a.jsonl"}})


# ---- what leaves the machine -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/jane/data/train.jsonl", "train.jsonl"),
        ("/srv/jane doe/my data/train rows.jsonl", "train rows.jsonl"),
        ("~/data/train.jsonl", "train.jsonl"),
        ("C:\\data\\jane\\train.jsonl", "train.jsonl"),
        ("3 rows of /srv/jane/train.jsonl:17 (not valid JSON)", "3 rows of train.jsonl:17 (not valid JSON)"),
        ('from: "/srv/runs/tales"', 'from: "tales"'),
        ("D:/runs/tales, then", "tales, then"),
        ("file:///srv/jane/x.jsonl", "x.jsonl"),
    ],
)
def test_a_published_text_names_no_place_of_this_machine(text: str, shown: str) -> None:
    assert published(text) == shown


@pytest.mark.parametrize(
    "text",
    ["data/train.jsonl", "org/name@v1", "https://example.org/a/b", "and/or", "1 / 2 / 3", "s3://bucket/a/b", "/think"],
)
def test_a_published_text_keeps_what_is_no_place(text: str) -> None:
    assert published(text) == text


def test_the_home_folder_goes_with_its_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/jane von doe")
    assert published("3 rows of /srv/people/jane von doe/x/train.jsonl: bad") == "3 rows of train.jsonl: bad"


def test_files_of_one_name_stay_apart_when_published() -> None:
    value = {"/a/one/train.jsonl": 1, "/a/two/train.jsonl": 2, "train.jsonl": 3}
    assert published(value) == {"train.jsonl": 1, "train.jsonl (2)": 2, "train.jsonl (3)": 3}
