"""Styles: a layer as anybody writes it comes in, a factory of layers with params, grads, forward and backward goes out."""

from harness.styles.activation import from_activation as from_activation
from harness.styles.adjusted import adjust as adjust
from harness.styles.attributes import from_attributes as from_attributes
from harness.styles.buffers import from_buffers as from_buffers
from harness.styles.dicts import from_dicts as from_dicts
from harness.styles.functions import from_functions as from_functions
from harness.styles.graph_values import from_graph_values as from_graph_values
from harness.styles.jax_functions import from_jax as from_jax
from harness.styles.lists import from_lists as from_lists
from harness.styles.losses import from_loss as from_loss
from harness.styles.losses import from_loss_layer as from_loss_layer
from harness.styles.losses import from_loss_pair as from_loss_pair
from harness.styles.returned import from_returned as from_returned
from harness.styles.torch_functions import from_torch as from_torch
from harness.styles.updating import from_updating as from_updating
