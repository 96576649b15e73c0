"""Plain stochastic gradient descent: a network and batches come in, the loss of each step goes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reference_layers.layer import Array
from reference_layers.network import Network


def descend(network: Network, batches: Iterable[Mapping[str, Array]], learning_rate: float) -> Iterator[float]:
    """Yield the loss of each batch, and lower it: every parameter moves by -learning_rate times its gradient.

    The parameters are replaced by new arrays of the same dtype, so that the caller's stay as they were.

    >>> import numpy as np
    >>> from reference_layers import Affine, MeanSquaredError, Node
    >>> line = Affine(np.zeros((1, 1)), np.zeros(1))
    >>> network = Network([Node("line", line, ("x",)), Node("loss", MeanSquaredError(), ("line", "t"))], ["x", "t"])
    >>> batch = {"x": np.array([[1.0], [2.0]]), "t": np.array([[3.0], [5.0]])}
    >>> losses = list(descend(network, [batch] * 500, learning_rate=0.2))
    >>> losses[-1] < 1e-6 * losses[0], line.params["W"].round(2).item(), line.params["b"].round(2).item()
    (True, 2.0, 1.0)
    """
    rate = float(learning_rate)  # a NumPy float64 would turn float32 parameters into float64
    for batch in batches:
        loss = network.forward(batch)
        network.backward(loss.dtype.type(1))
        for node in network.nodes:
            params, grads = node.layer.params, node.layer.grads
            node.layer.params.update({name: value - rate * grads[name] for name, value in params.items()})
        yield float(loss)
