"""Layers that hang, end the process, and take all the memory there is."""

import os
import time

import numpy as np


class Square:
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, dy):
        return 2 * self.x * dy


class Hanging(Square):
    def backward(self, dy):
        time.sleep(3600)


class Leaving(Square):
    def backward(self, dy):
        os._exit(1)


class Hoarding(Square):
    def backward(self, dy):
        return 2 * self.x * dy + np.zeros(2**34)[0]


def formula(xp, params, x):
    return x * x
