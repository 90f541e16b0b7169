"""What stands above a table of results."""

from records import head
from sdssl_bench.records import record_title


def test_a_title_says_of_a_trial_that_it_is_one() -> None:
    whole, trial = (record_title({**head(), "limited": limited}) for limited in (None, 40))
    assert trial == f"{whole} · limited to 40 items per split"
