"""Copies between host and device; what passes to and from CUDA is held by test_assumed_device."""

import torch

from pcsr_cli.engine.device import Downloads, upload

CPU = torch.device("cpu")


def test_what_is_there_already_is_not_copied() -> None:
    values = torch.rand(3)
    assert upload(values, CPU) is values


def test_what_comes_from_the_host_is_in_its_place_at_once() -> None:
    place, values = torch.zeros(2, 3), torch.rand(2, 3)
    Downloads().bring(values[:, 1:], place[:, 1:])
    assert torch.equal(place[:, 1:], values[:, 1:])
    assert (place[:, 0] == 0).all()
