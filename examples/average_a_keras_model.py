"""Perturb a Keras model of your own, average the clients through TFF, and use the mean in Keras.

python examples/average_a_keras_model.py [OUT.h5]
"""

import sys

import numpy as np
import tensorflow as tf

import fedviz as fv

out = sys.argv[1] if len(sys.argv) > 1 else "my-model.h5"

model = tf.keras.Sequential(
    [
        tf.keras.layers.Dense(16, activation="relu", input_shape=(4,), name="hidden"),
        tf.keras.layers.Dense(1, name="out"),
    ]
)
with fv.synthesize(out, model, num_clients=20, stddev=0.01, seed=0) as dataset:
    print(dataset.signature)
    mean = fv.average(dataset, weighting="num_examples")

before = model(np.ones((1, 4), "float32")).numpy()
fv.assign_weights(model, mean.weights)
after = model(np.ones((1, 4), "float32")).numpy()
print(f"output before {before.item():.4f}, with the mean of 20 clients {after.item():.4f}")
