import json

import pytest
import tensorflow as tf

from fedviz.errors import InvalidArgumentError, StorageError
from fedviz.training.keras_config import model_from_json

layers = tf.keras.layers


def sequential(*rest, shape=(4,)):
    return tf.keras.Sequential([tf.keras.Input(shape), *rest])


def test_nested_models_and_wrapped_layers_are_built():
    inner = tf.keras.Sequential([layers.Dense(4, kernel_regularizer="l2", name="inner")])
    recurrent = layers.Bidirectional(layers.GRU(3), name="both")
    model = sequential(layers.TimeDistributed(inner), recurrent, shape=(8, 8))
    built = model_from_json(model.to_json())
    # 8 × 4 + 4 in the dense layer; 3 gates of (4 + 3 + 2 biases) × 3, both ways.
    assert built.count_params() == 36 + 2 * 3 * (4 + 3 + 2) * 3
    assert built.output_shape == model.output_shape


def test_a_file_is_read(tmp_path):
    (tmp_path / "m.json").write_text(sequential(layers.Dense(2)).to_json())
    assert model_from_json(tmp_path / "m.json").count_params() == 10
    with pytest.raises(StorageError, match="there is no"):
        model_from_json(tmp_path / "absent.json")


def test_a_lambda_is_refused_before_its_code_runs(tmp_path):
    evidence = tmp_path / "ran"
    path = str(evidence)
    evil = layers.Lambda(lambda x: open(path, "w") and x, name="evil")  # noqa: SIM115, PTH123
    text = sequential(evil, layers.Dense(2)).to_json()
    # Keras runs it where the model is built.
    evidence.unlink()
    with pytest.raises(InvalidArgumentError, match="layer evil: Lambda is refused: it holds Pyth"):
        model_from_json(text)
    assert not evidence.exists()


def test_operations_of_tensorflow_are_refused():
    inputs = tf.keras.Input((4,))
    for outputs in (tf.nn.relu(inputs), layers.Dense(3)(inputs)[:, :2]):
        with pytest.raises(InvalidArgumentError, match="may call any function of TensorFlow"):
            model_from_json(tf.keras.Model(inputs, outputs).to_json())


def changed(change):
    """The JSON of a model with one dense layer, whose node ``change`` was given."""
    config = json.loads(sequential(layers.Dense(2, name="last")).to_json())
    change(config["config"]["layers"][1])
    return json.dumps(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n.update(module="os"), "layer last: Dense is to come from the module 'os'"),
        (lambda n: n.update(class_name="system"), "layer last: 'system' is not a class of Keras"),
        (lambda n: n.update(class_name=["Dense"]), "is not a class of Keras"),
        (lambda n: n.update(registered_name="pkg>Mine"), "'pkg>Mine' is a custom class"),
        (
            lambda n: n["config"].update(activation="eval"),
            "layer last: 'eval' is not an act",
        ),
        (
            lambda n: n["config"].update(
                activation={"class_name": "function", "module": "os", "config": "system"}
            ),
            "layer last: 'function' is not a class of Keras",
        ),
        (
            lambda n: n["config"].update(
                kernel_initializer={"class_name": "Zeros", "module": "evil", "config": {}}
            ),
            "layer last: Zeros is to come from the module 'evil'",
        ),
        (lambda n: n.update(class_name="TFSMLayer"), "reads a program from another file"),
        (
            lambda n: n.update(class_name="StringLookup"),
            "may read its vocabulary",
        ),
        (lambda n: n["config"].update(units=10**10), "at most 500,000,000 parameters, found 50,0"),
        (lambda n: n["config"].update(units=-3), "Keras cannot build this model: .*units.*"),
    ],
)
def test_a_node_that_is_not_keras_own_is_refused(change, message):
    with pytest.raises(InvalidArgumentError, match=message):
        model_from_json(changed(change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected the JSON of a Keras model"),
        ('{"a": ' * 100_000, "expected the JSON of a Keras model"),
        ('{"class_name": "Dense"}', "expected a Sequential or Functional model, found Dense"),
        ('{"class_name": "Sequential", "config": {"class_name": "DTypePolicy"}}', "one of Keras 3"),
        (tf.keras.Sequential([layers.Dense(3)]).to_json(), "give it an Input"),
    ],
)
def test_a_text_that_is_no_model_says_so(text, message):
    with pytest.raises(InvalidArgumentError, match=message):
        model_from_json(text)
