"""The server's mean: its slow twin, what is counted, what it leaves alone."""

import pytest
import torch

from rlrep.federated import weighted_mean


def test_equals_its_slow_twin_and_takes_the_largest_count() -> None:
    generator = torch.Generator().manual_seed(0)
    states = [{"w": torch.randn(3, 2, generator=generator), "n": torch.tensor(k)} for k in (4, 9, 2)]
    found = weighted_mean(states, [10, 30, 60])
    for i in range(3):
        for j in range(2):
            slow = sum(share * float(state["w"][i, j]) for share, state in zip((0.1, 0.3, 0.6), states, strict=True))
            assert float(found["w"][i, j]) == pytest.approx(slow, rel=1e-6)
    assert found["w"].dtype == torch.float32 and found["n"].dtype == torch.int64 and int(found["n"]) == 9


def test_equal_states_stay_what_they_are_bit_for_bit() -> None:
    state = {"w": torch.randn(1000, generator=torch.Generator().manual_seed(1)), "n": torch.tensor(3)}
    found = weighted_mean([state] * 7, [1, 3, 5, 7, 11, 13, 17])
    assert torch.equal(found["w"], state["w"]) and int(found["n"]) == 3


@pytest.mark.parametrize(
    ("states", "weights", "message"),
    [
        ([], [], "as many weights"),
        ([{"a": torch.ones(1)}], [1, 2], "as many weights"),
        ([{"a": torch.ones(1)}], [0], "above 0"),
        ([{"a": torch.ones(1)}, {"b": torch.ones(1)}], [1, 1], "names differ"),
    ],
)
def test_what_has_no_mean_is_refused(states: list[dict[str, torch.Tensor]], weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weighted_mean(states, weights)
