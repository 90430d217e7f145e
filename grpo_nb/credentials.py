"""Secrets: from the environment or the host's store, never from a cell, never printed."""

import os


def secret(name: str) -> str | None:
    """A secret from the environment, Colab's or Kaggle's store; None where there is none. Never asks, never prints."""
    if os.environ.get(name):
        return os.environ[name]
    for look_up in (_colab_secret, _kaggle_secret):
        try:
            if value := look_up(name):
                return value
        except Exception:  # the stores raise half a dozen types for "not there", "not allowed" and "no answer"
            continue
    return None


def _colab_secret(name: str) -> str:
    from google.colab import userdata

    return userdata.get(name)


def _kaggle_secret(name: str) -> str:
    from kaggle_secrets import UserSecretsClient

    return UserSecretsClient().get_secret(name)
