"""Secrets: from the environment or the host's store, never from a cell, never printed."""

import os


def secret(name: str) -> str | None:
    """A secret from the environment, else from Colab's store, else from Kaggle's; None where there is none.

    Never asks, never prints. White space around it, as pasting leaves it, is no part of it.

    >>> secret("GRPO_NB_NO_SUCH_SECRET") is None
    True
    """
    for look_up in (os.environ.get, _colab_secret, _kaggle_secret):
        try:
            if value := (look_up(name) or "").strip():
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
