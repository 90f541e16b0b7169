"""Values given with --set: finite, of the field's type, and with an effect."""

import pytest

from sdssl_bench import tasks
from sdssl_bench.errors import UsageError


@pytest.mark.parametrize(
    ("task", "protocol", "field"),
    [("linear", "mocov3", "lr"), ("linear", "logreg", "tolerance"), ("linear", "mocov3", "crop_scale"),
     ("finetune", None, "lr"), ("finetune", None, "weight_decay"), ("finetune", None, "mixup")],
)  # fmt: skip
def test_numbers_are_finite(task: str, protocol: str | None, field: str) -> None:
    for text in ("nan", "inf", "-inf", "1e400", "0.1,nan"):
        with pytest.raises(UsageError, match=f"--set {field} takes"):
            tasks.load(task, protocol, {field: text})


@pytest.mark.parametrize(
    ("protocol", "field", "text"),
    [
        ("logreg", "epochs", "5"),
        ("logreg", "lr", "3"),
        ("logreg", "batch_norm", "true"),
        ("mocov3", "sweep", "clip"),
        ("dinov2", "tolerance", "0.1"),
    ],
)
def test_a_parameter_of_the_other_solver_is_refused(protocol: str, field: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"{field} have no effect"):
        tasks.load("linear", protocol, {field: text})


def test_a_path_that_is_always_dropped_is_refused() -> None:
    with pytest.raises(UsageError, match="drop_path"):
        tasks.load("finetune", None, {"drop_path": "1"})
