"""Heads and views by name, below the command line, are those of the command line."""

from typing import Any

import pytest

from rlrep.config.make import load_component
from rlrep.heads import InstanceContrast, named
from rlrep.settings import groups
from rlrep.views import RandomShift

SHAPES = {"pixels": (9, 60, 60), "state": (5,)}


@pytest.mark.parametrize("obs", SHAPES)
def test_heads_are_those_of_the_command_line(obs: str) -> None:
    shape = SHAPES[obs]
    for name in set(groups.names("aux")) - {"none"}:
        if obs == "state" and name == "curl_weak":  # its view is for frames
            with pytest.raises(ValueError, match="crop_pad_crop is for frames"):
                named.named_heads([name], shape)
            continue
        assert named.named_heads(name, shape) == {name: load_component("aux", name, obs=obs, size=shape[-1])}


def test_views_are_those_of_the_command_line() -> None:
    for name in groups.names("augment"):
        if name != "amplitude_scale":
            view = load_component("augment", name, obs="pixels", size=60)
            assert repr(named.named_view(name, SHAPES["pixels"])) == repr(view), name
    assert named.named_view("auto", (9, 40, 40)) == RandomShift(size=40)


def test_options_and_configs() -> None:
    own = InstanceContrast(weight=2.0)
    found = named.named_heads({"mine": own, "curl": {"weight": 3, "view": "simclr"}}, SHAPES["pixels"])
    assert list(found) == ["curl", "mine"] and found["mine"] is own
    assert found["curl"].weight == 3.0 and isinstance(found["curl"].weight, float)
    assert named.named_heads(["none"], (3,)) == named.named_heads((), (3,)) == {}
    with pytest.raises(ValueError, match=r"aux\.curl: views must be 2"):
        named.named_heads({"curl": {"views": 5}}, SHAPES["pixels"])


@pytest.mark.parametrize(
    ("heads", "line"),
    [
        ({"curl": {"queue_size": 0.5}}, "aux.curl.queue_size=0.5: expected a whole number"),
        ({"curl": {"weight": True}}, "aux.curl.weight=true: expected a number"),
        ({"curl": {"objective": "bilinaer"}}, "aux.curl: objective=bilinaer is not a choice: did you mean bilinear?"),
        ({"return_contrast": {"mode": "bins"}}, "aux.return_contrast.mode=bins is not a choice"),
        ({"curl": {"temperature": "hot"}}, "aux.curl.temperature=hot: expected a number"),
        ({"curl": {"view": 3}}, "aux.curl.view=3: expected a group of options"),
        ({"curl": {"view": "zoom"}}, "aux.curl.view=zoom is not known"),
        ({"curl": InstanceContrast}, "aux.curl: expected options or a head's config"),
        ([InstanceContrast()], "expected names of heads, or options or configs by name"),
        (3, "aux=3: expected names of heads"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(heads: Any, line: str) -> None:
    with pytest.raises(ValueError) as error:
        named.named_heads(heads, SHAPES["pixels"])
    assert line in str(error.value) and "\n" not in str(error.value)


def test_a_head_takes_views_as_objects_and_follows_the_agents() -> None:
    def view(heads: Any, augment: RandomShift | None = None) -> Any:
        head: Any = named.named_heads(heads, SHAPES["pixels"], augment)["curl"]
        return head.view

    assert view({"curl": {"view": RandomShift(size=60, pad=2)}}) == RandomShift(size=60, pad=2)
    assert view("curl") == RandomShift(size=60) and view("curl", RandomShift(size=60)) is None
