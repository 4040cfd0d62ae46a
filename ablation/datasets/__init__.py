"""Data sets: a procedural control, and anything that Hugging Face's `datasets` reads."""

from ablation.datasets.base import Data, DataError, DataSet, Split, loaded
from ablation.datasets.hub import ImageData
from ablation.datasets.shapes import Shapes

__all__ = ["Data", "DataError", "DataSet", "ImageData", "Shapes", "Split", "loaded"]
