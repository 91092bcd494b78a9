"""Makes the files of real Keras beside it; see README.md for the versions.

Run in an environment that has one of them: ``python make_files.py FOLDER``. It is written for
Python 3.6, the newest that Keras 1 runs on. What Keras itself says of each model, its variables'
names and values in the order of ``get_weights()``, goes into ``FOLDER/kerasN.N_said.json``.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers, models

VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])
MAJOR = VERSION[0]
MODERN = VERSION >= (2, 14)


def input_of(shape):
    return keras.Input(shape) if MODERN else layers.Input(shape)


def deep():
    """More than ten layers of a kind: by name, dense_10 would come before dense_2."""
    # Most are frozen, so that the optimizer's state takes little room.
    options = {"bias" if MAJOR == 1 else "use_bias": False, "trainable": False}
    convolution = layers.Convolution2D(2, 3, 3) if MAJOR == 1 else layers.Conv2D(2, 3)
    image = input_of((4, 4, 1))
    features = layers.Flatten()(layers.BatchNormalization()(convolution(image)))
    for _ in range(11):
        features = layers.Dense(2, **options)(features)
    return image, layers.Dense(3, activation="softmax", name="a_last")(features)


def nested():
    """A model as a layer, whose weights are called by its own layers' names."""
    encoder = models.Sequential(name="encoder")
    if MODERN:
        encoder.add(keras.Input((3,)))
        encoder.add(layers.Dense(4))
    else:
        encoder.add(layers.Dense(4, input_shape=(3,)))
    encoder.add(layers.BatchNormalization())
    encoder.add(layers.Dense(2))
    numbers = input_of((3,))
    return numbers, layers.Dense(2, name="head")(encoder(numbers))


def renamed():
    """A layer that is given another name after its weights were."""
    numbers = input_of((3,))
    layer = layers.Dense(2, name="before")
    outputs = layers.Dense(2, name="head")(layer(numbers))
    if MODERN:
        layer._name = "after"
    else:
        layer.name = "after"
    return numbers, outputs


def text():
    """Recurrent, wrapped and attending layers, a frozen one and one with random state."""
    words = keras.Input((3,))
    frozen = layers.Embedding(5, 2, trainable=False, name="words")
    sequence = layers.Dropout(0.5)(frozen(words))
    sequence = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both")(sequence)
    sequence = layers.TimeDistributed(layers.Dense(2), name="each")(sequence)
    sequence = layers.MultiHeadAttention(1, 2, name="heads")(sequence, sequence)
    sequence = layers.LayerNormalization(name="ln")(sequence)
    return words, layers.Dense(2, name="head")(layers.GRU(2, name="gru")(sequence))


def small():
    """What a newcomer's loop makes: layers without names."""
    numbers = input_of((3,))
    hidden = layers.BatchNormalization()(layers.Dense(4)(numbers))
    return numbers, layers.Dense(2)(hidden)


def model_of(make):
    inputs, outputs = make()
    return models.Model(inputs, outputs)


def trained(make):
    """A model after one epoch, so that its file has the optimizer's state."""
    model = model_of(make)
    model.compile(optimizer="rmsprop", loss="mse")
    inputs = np.random.RandomState(0).uniform(size=(8, *model.input_shape[1:])).astype("float32")
    epochs = {"nb_epoch" if MAJOR == 1 else "epochs": 1}
    model.fit(inputs, np.ones((8, model.output_shape[-1]), "float32"), verbose=0, **epochs)
    return model


def said_by_keras(model):
    """Names and values of the variables, in the order of ``get_weights()``.

    ``model.weights`` of Keras before 2.4 lists the trainable ones first, so each layer is asked.
    """
    weights = model.weights if MODERN else [w for layer in model.layers for w in layer.weights]
    names = [getattr(weight, "path", weight.name) for weight in weights]
    values = [value.tolist() for value in model.get_weights()]
    assert len(names) == len(values)
    # Python 3.6 has no strict=True.
    return [{"name": n, "values": v} for n, v in zip(names, values)]  # noqa: B905


def main(folder):
    folder = Path(folder)
    version = f"keras{VERSION[0]}.{VERSION[1]}"
    said = {"keras": keras.__version__}

    def save(name, model, *endings):
        said[name] = said_by_keras(model)
        for ending in endings:
            path = folder / f"{version}_{name}{ending}"
            (model.save_weights if "weights" in ending else model.save)(str(path))

    archive = (".keras",) if MODERN else ()
    weights = (".weights.h5",) if MODERN else ()
    older_weights = ("_weights.h5",) if MAJOR < 3 else ()
    save("deep", trained(deep), ".h5", *(archive + weights + older_weights))
    save("nested", model_of(nested), ".h5", *archive)
    save("renamed", model_of(renamed), ".h5", *archive)
    if MODERN:
        save("text", model_of(text), ".h5", ".keras", ".weights.h5")
    for client in range(3):
        save(f"loop{client}", model_of(small), ".h5")
    (folder / f"{version}_said.json").write_text(json.dumps(said, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
