"""`explain` lists every recorded setting that differs, and only settings."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from records import ENVIRONMENT, entry, head
from sdssl_bench.cli.main import app
from sdssl_bench.records.explanation import differences, obstacles
from sdssl_bench.records.identity import Record


def record(value: float = 0.5, environment: Any = ENVIRONMENT, **changes: Any) -> Record:
    layers = {"3": {**entry(value), "environment": 0}}
    return {**head(**changes), "environments": [environment], "layers": layers}


def paths(a: Record, b: Record) -> list[str]:
    return [one.path for one in differences(a, b)]


def test_a_record_does_not_differ_from_itself() -> None:
    assert differences(record(), record()) == []


def test_scores_times_and_digests_of_settings_are_no_settings() -> None:
    other = record(0.9, protocol__digest="1" * 16)
    other["layers"]["3"] |= {"scored_at": "2027-01-01T00:00:00+00:00", "seconds": {"search": 9.0}}
    assert differences(record(), other) == []


@pytest.mark.parametrize(
    ("change", "path", "group", "blocks"),
    [
        ({"protocol__parameters": {"k": [5]}}, "protocol.parameters.k", "protocol", True),
        ({"protocol__resolved": {"size": 32}}, "protocol.resolved.size", "protocol", False),
        ({"dataset__fingerprint": "e" * 64}, "dataset.fingerprint", "data", True),
        ({"limited": 10}, "limited", "data", True),
        ({"model__norm": "none"}, "model.norm", "model", False),
        ({"model__weights_sha256": "b" * 64}, "model.weights_sha256", "model", False),
        ({"settings__dtype": "bfloat16"}, "settings.dtype", "settings", False),
        ({"model__name": "other"}, "model.name", "name", False),
    ],
)
def test_a_setting_is_named_grouped_and_known_to_block_a_comparison(
    change: dict[str, Any], path: str, group: str, blocks: bool
) -> None:
    (found,) = [one for one in differences(record(), record(**change)) if one.path == path]
    assert found.group == group
    assert found.harmless == (group == "name")
    assert bool(obstacles(record(), record(**change))) == blocks


def test_software_and_machines_are_listed_as_harmless() -> None:
    other = record(environment={**ENVIRONMENT, "device": "NVIDIA A100"})
    (found,) = differences(record(), other)
    assert (found.path, found.a, found.b) == ("environments.device", "cpu", "NVIDIA A100")
    assert found.harmless


def test_several_environments_of_a_record_are_all_named() -> None:
    other = record()
    other["environments"].append({**ENVIRONMENT, "device": "NVIDIA A100"})
    (found,) = differences(record(), other)
    assert found.b == ["cpu", "NVIDIA A100"]


def test_skipped_images_and_missing_layers_count() -> None:
    other = record()
    other["layers"]["2"] = other["layers"]["3"]
    other["layers"]["3"] = {**other["layers"]["3"], "notes": {"skipped_images": {"test": 1}}}
    assert paths(record(), other) == ["layers.scored", "layers.skipped_images"]


def test_the_command_prints_groups_and_json(tmp_path: Path) -> None:
    files = []
    for name, changes in (("a", {}), ("b", {"model__norm": "none", "model__name": "x"})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(record(0.5 if name == "a" else 0.6, **changes)))
        files.append(str(path))
    result = CliRunner().invoke(app, ["explain", *files])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "k20/top1 differs at 1 of 1 layers that both have." in lines
    assert "    model.norm: shared against none" in lines
    assert lines.index("    model.norm: shared against none") < lines.index(
        "    model.name: dino against x"
    )
    found = json.loads(CliRunner().invoke(app, ["explain", *files, "--json"]).stdout)
    assert found["same_evaluation"] is False
    assert found["headline"] == {"3": {"a": 0.5, "b": 0.6}}
    assert [one["can_change_numbers"] for one in found["differences"]] == [True, False]


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    result = CliRunner().invoke(
        app, ["explain", str(tmp_path / "x.json"), str(tmp_path / "x.json")]
    )
    assert result.exit_code == 3
