"""Routing by patch, as ClassSR and ARM do it, to compare routing by pixel with: the same network, the same FLOPs."""

import torch
from torch import Tensor


def patch_mask(difficulty: Tensor, side: int, heavy: int) -> Tensor:
    """The pixels that are heavy where whole patches are routed by their mean p_heavy, (H, W) bool.

    ``difficulty`` is (H, W), ``side`` the patch's in HR pixels. The hardest patches are heavy until ``heavy`` pixels
    are spent; of the last one only its upper part, so that exactly as much is spent as by the routing compared with.
    """
    height, width = difficulty.shape
    across = -(-width // side)
    patch = (torch.arange(height) // side)[:, None] * across + torch.arange(width) // side
    count = torch.bincount(patch.view(-1))
    mean = torch.bincount(patch.view(-1), weights=difficulty.reshape(-1).double()) / count
    rank = torch.empty_like(count)
    rank[mean.argsort(descending=True, stable=True)] = torch.arange(len(count))
    order = rank[patch.view(-1)].argsort(stable=True)
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[order[:heavy]] = True
    return mask.view(height, width)
