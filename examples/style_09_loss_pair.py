"""Style 9: a loss and its gradient as two functions that take the target first."""

from harness import LayerSpec
from harness.styles import from_loss_pair


def mse(y_true, y_pred):
    return ((y_pred - y_true) ** 2).mean()


def mse_grad(y_true, y_pred):
    return 2 * (y_pred - y_true) / y_true.size


def mse_grad_over_rows(y_true, y_pred):
    return 2 * (y_pred - y_true) / len(y_true)


def formula(xp, params, x, t):
    return xp.mean((x - t) * (x - t))


shapes = {"inputs": [(8, 5), (8, 5)], "constants": (1,)}
right = LayerSpec(from_loss_pair(mse, mse_grad, target_first=True), formula, **shapes)
wrong = LayerSpec(from_loss_pair(mse, mse_grad_over_rows, target_first=True), formula, **shapes)
FINDS = ("gradients", "dx: it is 5 times the truth, and 5 is axis 1 of the input")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
