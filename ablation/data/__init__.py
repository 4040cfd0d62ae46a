"""Data sets: a synthetic control, and images from folders, parquet files and the Hugging Face Hub.

dataset      three splits of images and labels; how to cut splits
shapes       the synthetic control
images       `ImageData`: a folder, parquet files or a data set of the Hub
loading      a data set once per process; checks of a user's data set

The way of the files to `ImageData`:

source       the location, and one sentence per fault
reader       one reader per form: folder (class folders), parquet (also splits of `datasets`)
survey       a digest of all encoded images and labels
labels       labels in files to numbers of classes
splits       images to train, validation and test
image_lists  images by content, wherever the files are
decode       upright, with the channels and the square shape of the data set
storage      decodes into the cache; odd_images counts what looks odd
cache        decoded images in files
prefetch     batches from memory or a file while the device computes
"""

from ablation.data.dataset import Data, DataSet, Split
from ablation.data.images import ImageData
from ablation.data.loading import loaded
from ablation.data.shapes import Shapes

__all__ = ["Data", "DataSet", "ImageData", "Shapes", "Split", "loaded"]
