"""Hand-written NumPy layers: each a forward pass, a backward pass and a proven bound on their rounding."""

from reference_layers.add import Add
from reference_layers.affine import Affine
from reference_layers.layer import BackwardBound, Hazard, Layer, LayerBase, Pair, Rounding, Worked
from reference_layers.mean_squared_error import MeanSquaredError
from reference_layers.multiply import Multiply
from reference_layers.network import Network, Node
from reference_layers.relu import ReLU
from reference_layers.sgd import descend
from reference_layers.sigmoid import Sigmoid
from reference_layers.softmax_cross_entropy import SoftmaxCrossEntropy
from reference_layers.storage import Stored

__all__ = [
    "Add",
    "Affine",
    "BackwardBound",
    "Hazard",
    "Layer",
    "LayerBase",
    "MeanSquaredError",
    "Multiply",
    "Network",
    "Node",
    "Pair",
    "ReLU",
    "Rounding",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Stored",
    "Worked",
    "descend",
]
