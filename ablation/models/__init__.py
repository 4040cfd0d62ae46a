"""Encoders and their batch norms."""

from ablation.models.resnet import ResNet, SmallResNet
from ablation.models.vit import ViT

__all__ = ["ResNet", "SmallResNet", "ViT"]
