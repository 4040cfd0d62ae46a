"""Data sets: a procedural control, and images of folders, parquet files and the Hugging Face Hub."""

from ablation.datasets.base import Data, DataError, DataSet, Split, loaded
from ablation.datasets.hub import ImageData
from ablation.datasets.shapes import Shapes

__all__ = ["Data", "DataError", "DataSet", "ImageData", "Shapes", "Split", "loaded"]
