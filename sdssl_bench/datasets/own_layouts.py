"""Expected trees of the sets that are no classification sets, as `data layout` prints them."""

from sdssl_bench.datasets import copydays, davis, roxford_rparis

OWN_LAYOUTS: dict[str, str] = {
    davis.NAME: davis.LAYOUT,
    copydays.NAME: copydays.LAYOUT,
    **{name: roxford_rparis.layout(name) for name in roxford_rparis.NAMES},
}
