"""The runtimes under comparison, one module each, one class a runtime.

A runtime has a `name`, a `precision` ("f32", or what its weights are reduced to), is made with the number of threads,
raises ImportError where it is not installed, and has a method for each kind of work that it can do:

    step(shape, layers, x) -> Call        one time step of a recurrent layer; each run goes on from the last one's states
    sequence(shape, layers, x) -> Call    all time steps of it, from zero states
    ragged(shape, layers, x, lengths) -> Call    the same where each sequence has its own length; outputs beyond it are 0
    greedy(weights, streams) -> Greedy    tokens with carried states, the streams side by side
    window(weights, window) -> Generate   the tutorials' loop: a window again for each new word

Everything that is not asked of every call (packing, binding, converting x) happens before.
"""

from __future__ import annotations

from . import keras_tf, native, openvino_rt, ort, pytorch
from .common import Call, Generate, Greedy

ALL = (
    native.Lstmrt,
    native.LstmrtBf16,
    native.LstmrtInt8,
    ort.OnnxRuntime,
    pytorch.Torch,
    pytorch.TorchBf16,
    pytorch.TorchInt8,
    openvino_rt.OpenVino,
    openvino_rt.OpenVinoBf16,
    keras_tf.TfFunction,
    keras_tf.KerasCall,
    keras_tf.KerasPredict,
)

__all__ = ["ALL", "Call", "Generate", "Greedy"]
