"""What runs in the peers' environment (`.venv-peers`), and never beside TensorFlow."""
