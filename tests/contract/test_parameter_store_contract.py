"""What every parameter store promises."""

from __future__ import annotations

from typing import Any

import pytest

from tickless.adapters.memory import MemoryParameterStore
from tickless.adapters.ssm_parameters import SsmParameterStore
from tickless.errors import RetryableError, SettingsError
from tickless.ports import ParameterStore


@pytest.fixture(params=["memory", "ssm"])
def store(request: pytest.FixtureRequest) -> ParameterStore:
    return MemoryParameterStore() if request.param == "memory" else SsmParameterStore(request.getfixturevalue("aws")("ssm"), "dev")


def test_an_empty_store(store: ParameterStore) -> None:
    assert store.read() == {}


def test_more_sections_than_a_page_holds(store: ParameterStore) -> None:
    sections = {f"strategy.s{n:02d}": f'{{"top_k": {n}}}' for n in range(24)}
    for name in reversed(sections):
        store.write(name, sections[name])
    assert store.read() == sections
    assert list(store.read()) == sorted(sections)


def test_a_section_is_replaced(store: ParameterStore) -> None:
    store.write("risk", "{}")
    store.write("risk", '{"kill_switch_frac": 0.2}')
    assert store.read() == {"risk": '{"kill_switch_frac": 0.2}'}


@pytest.mark.parametrize(("section", "text"), [("risk", ""), ("risk", "x" * 4097), ("../prod/risk", "{}"), ("", "{}"), ("Risk", "{}")])
def test_what_ssm_would_not_take_is_refused(store: ParameterStore, section: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"^{section}: "):
        store.write(section, text)
    assert store.read() == {}


def test_the_longest_text_fits(store: ParameterStore) -> None:
    store.write("risk", "x" * 4096)
    assert len(store.read()["risk"]) == 4096


def test_stages_do_not_see_one_another(aws: Any) -> None:
    SsmParameterStore(aws("ssm"), "dev").write("risk", "{}")
    assert SsmParameterStore(aws("ssm"), "prod").read() == {}
    assert aws("ssm").get_parameter(Name="/tickless/dev/risk")["Parameter"]["Value"] == "{}"


def test_ssm_out_of_reach_may_be_tried_again(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import EndpointConnectionError

    client = aws("ssm")

    def down(*args: object, **kwargs: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://ssm")

    monkeypatch.setattr(client, "_make_api_call", down)
    store = SsmParameterStore(client, "dev")
    with pytest.raises(RetryableError, match="/tickless/dev/: cannot be read"):
        store.read()
    with pytest.raises(RetryableError, match="/tickless/dev/risk: cannot be written"):
        store.write("risk", "{}")
