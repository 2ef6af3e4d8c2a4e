"""The dashboard for Grafana, as a file; tests/e2e/test_metrics.py holds its metrics against a run with real vLLM."""

import re

import pytest

from tests.dashboard import dashboard, metrics, metrics_of, queries
from tests.unit.test_metrics import everything

PANELS = dashboard()["panels"]


def test_it_can_be_imported_anywhere() -> None:
    """No data source, no number of a folder or of a database is fixed in it."""
    found = dashboard()
    assert "id" not in found
    assert found["uid"] == "answers-job"
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {"${datasource}"}
    assert [variable["name"] for variable in found["templating"]["list"]] == ["datasource", "model"]


def test_panels_have_titles_and_say_what_they_show_and_none_is_over_another() -> None:
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert all(panel["description"].endswith(".") for panel in PANELS)
    places = [(x, y) for panel in PANELS for x, y in _cells(panel["gridPos"])]
    assert len(places) == len(set(places))
    assert all(x < 24 for x, _ in places)


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    return [(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])]


def test_each_metric_of_the_job_is_in_it_and_no_other_of_that_name() -> None:
    ours = {sample.name for family in everything() for sample in family.samples}
    assert {name for name in metrics() if name.startswith("answers_job")} == ours


def test_every_panel_shows_the_models_that_are_chosen() -> None:
    *of_panels, of_models = queries()
    assert of_models == "label_values(answers_job_info, model)"
    for query in of_panels:
        assert 'answers_job_info{model=~"$model"}' in query
        assert query.count("(") == query.count(")")
        assert not re.search(r"rate\([^[]*\)", query), query


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("a_total", {"a_total"}),
        ('rate(vllm:x_total{a="b_c"}[5m]) * on (instance) group_left (model) info{x=~"y"}', {"vllm:x_total", "info"}),
        ("histogram_quantile(0.5, sum by (le, model) (rate(x_bucket[$__rate_interval])))", {"x_bucket"}),
        ("label_values(info, model)", {"info"}),
    ],
)
def test_names_are_told_from_what_else_is_in_a_query(query: str, names: set[str]) -> None:
    assert metrics_of(query) == names
